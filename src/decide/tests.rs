//! The decisions, as DESIGN 2 (the annotation), 3 and 4 want them. Every pass is made by [`world::World`], which also
//! checks what must hold in each one. Random histories have a larger [`model`]; what must hold in them, I1 to I6, stands
//! in [`invariants`].

mod adoption;
mod exhaustive;
mod gate;
mod invariants;
mod model;
mod properties;
mod requests;
mod rest;
mod waits;
pub(crate) mod world;
