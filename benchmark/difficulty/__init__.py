"""Which noise levels are hard: yardsticks of difficulty by interval of the noise time."""
