"""The development stack that `ha-tasks demo` starts."""
