//! What is decided, case by case. Every reconciliation runs in a [`testkit::world::World`], which also checks what must
//! hold in each one. `tests/histories` of the operator has random histories.

mod adoption;
mod budget;
mod definition;
mod gate;
mod leaving;
mod observing;
mod requests;
mod rest;
mod waits;
