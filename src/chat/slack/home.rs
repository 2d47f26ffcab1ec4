//! The App Home: what waits for a person, their runs, agents to start.
