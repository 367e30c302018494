//! Objective.
