//! What people write, edit, delete and react to.
