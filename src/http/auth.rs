//! Programs with a bearer token: who they are, what the token is good for, how often they may ask.
