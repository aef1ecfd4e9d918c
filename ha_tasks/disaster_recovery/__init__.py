"""Planning and proving: BackupScheduler, DataReplication, RecoveryPlanner, BusinessContinuity."""
