//! The decisions, as DESIGN 2 (the annotation), 3 and 4 want them. Every pass is made by [`world::World`], which also
//! checks what must hold in each one.

mod adoption;
mod gate;
mod properties;

mod requests;
mod rest;
mod waits;
pub(crate) mod world;
