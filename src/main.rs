//! The `osprey` binary: everything it does lives in the library.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The allocator would have its arenas in pages of 2 MiB, of which a process that serves small
    // sessions touches little, and be twice as large. A kernel that refuses leaves it so.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    osprey::cli::run()
}
