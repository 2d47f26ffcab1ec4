//! What a run is at, best effort: a reaction, a status line, the state of the session.
