//! Model architectures written once against ops, with adapters and weight loading.
