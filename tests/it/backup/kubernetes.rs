//! Jobs and CronJobs, told by a made-up API server.
