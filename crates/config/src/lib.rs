//! The experiment schema, declared once: YAML reader and writer, JSON Schema, help texts, checks.
