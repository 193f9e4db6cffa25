//! Reconciles `LockPolicy` objects.
