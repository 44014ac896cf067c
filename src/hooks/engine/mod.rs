//! When hooks run: order, budgets, retries, bounds.
