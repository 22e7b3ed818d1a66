"""Files to tables; knows Kineto, knows no metric."""
