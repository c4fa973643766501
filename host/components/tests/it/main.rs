//! Components in the sandbox: what they may do, what stops them, what is kept of them.
