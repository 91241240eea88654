"""DCC: constrained processes on three time scales, coordinated by one vector of constraints."""
