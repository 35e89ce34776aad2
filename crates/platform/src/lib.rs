//! Facts about the machine: processor, instruction sets, memory in use.
