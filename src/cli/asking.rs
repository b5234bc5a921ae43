//! What the commands that ask once, `explain` and `doctor`, have in common.

use std::io::{self, Write as _};
use std::process::ExitCode;

use tokio::runtime::Builder;

use super::settings;
use crate::config::{Environment, Loaded, Settings};

/// Their common flags.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    settings: settings::Args,

    /// Which of several upstreams to look at, by its name [default: the first in the file]
    #[arg(long, value_name = "NAME")]
    in_upstream: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    /// The settings of `serve` with one upstream alone, except that the key records which it keeps
    /// are not touched.
    ///
    /// # Errors
    /// What to exit with, after every mistake has been shown.
    pub(super) fn load(self) -> Result<Loaded, ExitCode> {
        let mut loaded = self.settings.load(&Environment::of_process())?;
        loaded.settings.keys.snapshot = None;
        match choose(&mut loaded.settings, self.in_upstream.as_deref()) {
            Ok(None) => {}
            Ok(Some(note)) => eprintln!("osprey: {note}"),
            Err(why) => {
                eprintln!("osprey: {why}");
                return Err(ExitCode::from(settings::WRONG_CONFIGURATION));
            }
        }
        Ok(loaded)
    }
}

/// Leaves one upstream in the settings: the one of that name, else the first. Returns what there is
/// to say of that.
fn choose(settings: &mut Settings, name: Option<&str>) -> Result<Option<String>, String> {
    let names: Vec<&str> = settings.upstreams.iter().map(|u| &*u.name).collect();
    let all = names.join(", ");
    let (at, note) = match name {
        Some(name) => {
            let at = names.iter().position(|other| *other == name);
            let at = at.ok_or_else(|| {
                format!("--in-upstream: {name:?} is the name of no upstream; there is {all}")
            })?;
            (at, None)
        }
        None if names.len() > 1 => {
            let first = settings.upstream().name.as_str();
            let note =
                format!("this is about upstream {first:?}; --in-upstream chooses another of {all}");
            (0, Some(note))
        }
        None => (0, None),
    };
    settings.upstreams = vec![settings.upstreams.swap_remove(at)];
    Ok(note)
}

/// Waits for the answer; what it needs in the background goes on meanwhile.
///
/// # Errors
/// If the runtime cannot be started.
pub(super) fn wait_for<T>(answer: impl Future<Output = T>) -> Result<T, String> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    Ok(runtime.block_on(answer))
}

/// Prints the answer.
pub(super) fn print(text: &str) {
    // A reader that has seen enough (`| head`) is no mistake.
    let _ = io::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(name: Option<&str>) -> Result<(String, Option<String>), String> {
        let mut settings = Settings::for_upstream("a", 80);
        settings.upstream_mut().name = "prod".into();
        let mut second = settings.upstream().clone();
        second.name = "etl".into();
        settings.upstreams.push(second);
        let note = choose(&mut settings, name)?;
        assert_eq!(settings.upstreams.len(), 1);
        Ok((settings.upstream().name.clone(), note))
    }

    #[test]
    fn one_of_several_upstreams_is_chosen_by_its_name() {
        assert_eq!(chosen(Some("etl")), Ok(("etl".into(), None)));
        assert_eq!(chosen(Some("prod")), Ok(("prod".into(), None)));
        let (name, note) = chosen(None).unwrap();
        assert_eq!(name, "prod");
        assert!(note.unwrap().contains("another of prod, etl"));
        assert!(
            chosen(Some("x"))
                .unwrap_err()
                .contains("there is prod, etl")
        );
        let mut only = Settings::for_upstream("a", 80);
        assert_eq!(choose(&mut only, None), Ok(None));
    }
}
