"""The concurrency limit by temperature: sensors, governor (pure), control loop."""
