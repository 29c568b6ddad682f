//! Training steps of perceptrons, and whole runs.
