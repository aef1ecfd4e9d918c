"""Tuning: ResourceMonitor, PerformanceTuner, CacheOptimizer, QueryOptimizer."""
