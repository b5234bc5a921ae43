//! The heart, sans-IO: frames in, ranges out.
