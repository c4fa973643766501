//! The admin API under `/admin/v1`: models, components and their slots, jobs, recipes and their runs.
//!
//! Everything here is behind [`access`]. Handlers parse into checked types, work on a thread that may block, and answer
//! with JSON; changes that could collide carry the revision that they are based on.

pub mod access;
mod component_error;
pub mod components;
mod job_request;
pub mod jobs;
pub mod models;
mod recipe_request;
mod recipe_runner;
pub mod recipes;
pub mod runner;
