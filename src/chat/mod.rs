//! Chat: what people say and press in chat surfaces becomes inputs of threads.
//!
//! This room owns the way in: who is meant, which thread it is about, what has to be kept before it is
//! acknowledged, what can be answered at once. What goes out is the room `platform`'s.
//!
//! | file | owns |
//! |---|---|
//! | `commands` | the words of `/agent …`, the same on every surface: reading them, answering them |
//! | `slack` | Slack: deliveries by HTTP and by Socket Mode |

pub mod commands;
pub mod slack;
