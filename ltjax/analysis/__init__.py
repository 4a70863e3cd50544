"""What is asked of predictions after training: functions of arrays, without JAX."""
