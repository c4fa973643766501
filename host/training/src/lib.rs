//! The room for training: gradients, LoRA, distillation and from-scratch training.
//!
//! It will hold what changes weights by learning; what changes them by cutting is the pruning room's. Recovery after
//! surgery, gradient probes for policies and the `train` command come from here.
