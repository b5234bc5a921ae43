//! Credentials in files: the profile of Alibaba Cloud's command line (`~/.aliyun/config.json`), and
//! the SDKs' `credentials.ini`.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

use super::credentials::Credentials;
use super::surroundings::Surroundings;
use crate::config::Secret;

/// What a file says.
#[derive(Debug)]
pub(super) enum Found {
    Credentials(Credentials),
    /// Ask the instance's metadata service, for this role if one is named.
    EcsRole(Option<String>),
}

/// The first file that exists: the one in `ALIBABA_CLOUD_CREDENTIALS_FILE`, the command line's
/// profile, the SDKs' file.
///
/// # Errors
/// It exists and is of no use, in words that repeat nothing of it.
pub(super) fn find(surroundings: &Surroundings) -> Result<Option<Found>, String> {
    let profile = surroundings.own("PROFILE");
    if let Some(file) = surroundings.own("CREDENTIALS_FILE") {
        let text = read(Path::new(&file))?.ok_or_else(|| format!("{file} does not exist"))?;
        return ini(&text, profile.as_deref())
            .map(Some)
            .map_err(|why| format!("{file}: {why}"));
    }
    let Some(home) = &surroundings.home else {
        return Ok(None);
    };
    let disabled = surroundings
        .own("CLI_PROFILE_DISABLED")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let cli = home.join(".aliyun/config.json");
    if !disabled && let Some(text) = read(&cli)? {
        let found = cli_profile(&text, profile.as_deref());
        return found
            .map(Some)
            .map_err(|why| format!("{}: {why}", cli.display()));
    }
    let file = home.join(".alibabacloud/credentials.ini");
    let Some(text) = read(&file)? else {
        return Ok(None);
    };
    ini(&text, profile.as_deref())
        .map(Some)
        .map_err(|why| format!("{}: {why}", file.display()))
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

#[derive(Deserialize)]
struct Cli {
    #[serde(default)]
    current: String,
    #[serde(default)]
    profiles: Vec<Profile>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Profile {
    name: String,
    mode: String,
    access_key_id: String,
    access_key_secret: String,
    sts_token: String,
    ram_role_name: String,
}

fn cli_profile(text: &str, wanted: Option<&str>) -> Result<Found, String> {
    // The error's own text may quote what it stumbled over.
    let cli: Cli = serde_json::from_str(text).map_err(|_| "it is not JSON of the right form")?;
    let wanted = wanted.unwrap_or(&cli.current);
    let profile = cli
        .profiles
        .into_iter()
        .find(|profile| profile.name == wanted)
        .ok_or_else(|| format!("it has no profile {wanted:?}"))?;
    match profile.mode.as_str() {
        "AK" | "" => key(profile.access_key_id, profile.access_key_secret, None),
        "StsToken" => key(
            profile.access_key_id,
            profile.access_key_secret,
            Some(profile.sts_token),
        ),
        "EcsRamRole" => Ok(Found::EcsRole(
            Some(profile.ram_role_name).filter(|name| !name.is_empty()),
        )),
        mode => Err(format!(
            "profile {wanted:?} has mode {mode}; Osprey takes AK, StsToken and EcsRamRole"
        )),
    }
}

fn ini(text: &str, wanted: Option<&str>) -> Result<Found, String> {
    let wanted = wanted.unwrap_or("default");
    let mut section = None;
    let mut values: HashMap<&str, &str> = HashMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = Some(name.trim());
        } else if let Some((name, value)) = line.split_once('=')
            && !line.starts_with(['#', ';'])
            && section == Some(wanted)
        {
            values.insert(name.trim(), value.trim());
        }
    }
    let value = |name: &str| values.get(name).map(|value| (*value).to_owned());
    let id = value("access_key_id").unwrap_or_default();
    let secret = value("access_key_secret").unwrap_or_default();
    match value("type").as_deref() {
        Some("access_key") => key(id, secret, None),
        Some("sts") => key(id, secret, value("security_token")),
        Some("ecs_ram_role") => Ok(Found::EcsRole(value("role_name"))),
        Some(kind) => Err(format!(
            "[{wanted}] has type {kind}; Osprey takes access_key, sts and ecs_ram_role"
        )),
        None => Err(format!("it has no section [{wanted}] with a type")),
    }
}

fn key(id: String, secret: String, token: Option<String>) -> Result<Found, String> {
    if id.is_empty() || secret.is_empty() || token.as_deref() == Some("") {
        return Err("a part of the access key is missing".into());
    }
    Ok(Found::Credentials(Credentials {
        id,
        secret: Secret(secret),
        token: token.map(Secret),
        expires: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(found: Result<Found, String>) -> String {
        match found {
            Ok(Found::Credentials(found)) => {
                let token = found.token.map_or(String::new(), |token| token.0);
                format!("{}/{}/{token}", found.id, found.secret.0)
            }
            Ok(Found::EcsRole(role)) => format!("role {role:?}"),
            Err(why) => why,
        }
    }

    #[test]
    fn profiles_of_the_command_line() {
        let text = r#"{"current":"a","profiles":[
            {"name":"a","mode":"AK","access_key_id":"i","access_key_secret":"s"},
            {"name":"t","mode":"StsToken","access_key_id":"i","access_key_secret":"s","sts_token":"t"},
            {"name":"e","mode":"EcsRamRole","ram_role_name":"r"},
            {"name":"x","mode":"CloudSSO"}]}"#;
        assert_eq!(id(cli_profile(text, None)), "i/s/");
        assert_eq!(id(cli_profile(text, Some("t"))), "i/s/t");
        assert_eq!(id(cli_profile(text, Some("e"))), "role Some(\"r\")");
        assert!(id(cli_profile(text, Some("x"))).contains("mode CloudSSO"));
        assert!(id(cli_profile(text, Some("y"))).contains("no profile"));
        let broken = id(cli_profile("{\"access_key_secret\": \"hunter2\"", None));
        assert!(!broken.contains("hunter2"), "{broken}");
    }

    #[test]
    fn sections_of_the_sdks_file() {
        let text = "# mine\n[default]\ntype = access_key\naccess_key_id = i\naccess_key_secret=s=\n\
                    [t]\ntype=sts\naccess_key_id=i\naccess_key_secret=s\nsecurity_token=t\n\
                    [e]\ntype=ecs_ram_role\n[bad]\ntype=access_key\naccess_key_id=i\n";
        assert_eq!(id(ini(text, None)), "i/s=/");
        assert_eq!(id(ini(text, Some("t"))), "i/s/t");
        assert_eq!(id(ini(text, Some("e"))), "role None");
        assert!(id(ini(text, Some("bad"))).contains("missing"));
        assert!(id(ini(text, Some("none"))).contains("no section"));
    }
}
