"""Health and traffic: HealthMonitor, LoadBalancer, ServiceRegistry, TrafficRouter."""
