//! The core between a client and a model of a backend, with every interleaving that matters.

mod copy;
mod end;
mod model;
mod names;
mod property;
mod retry;
mod route;
mod told;
mod trio;
