//! The provider against a cloud that refuses, throttles, is slow, talks nonsense and lets tokens
//! expire.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::fake::{FakeCloud, Reply, SECRET, Seen, complaint, ok};
use super::*;
use crate::config::{CredentialSource, Endpoint};

mod hostile;

const KEY: &str = "05754286-3ba2-4fa6-8d41-4323aca6a0b1";

fn project(name: &str, encryption: &Value) -> Value {
    json!({"name": name, "properties": {"encryption": encryption}})
}

fn key_metadata(state: &str, expires: &str) -> Value {
    json!({"KeyMetadata": {"KeyId": KEY, "KeyState": state, "Origin": "EXTERNAL",
           "DeleteDate": "", "MaterialExpireTime": expires}, "RequestId": "r"})
}

/// Three projects in two pages, one of them the account's that the listing says nothing of.
fn play(seen: &Seen, _: usize) -> Reply {
    match seen.what() {
        "ListProjects" if seen.query.contains("marker=m2") => ok(&json!({"data": {
            "projects": [project("open", &json!({"enable": false}))], "marker": ""}})),
        "ListProjects" => ok(&json!({"errorCode": "a sample", "data": {
            "projects": [
                project("sales", &json!({"enable": true, "algorithm": "AES256", "key": KEY})),
                project("hr", &json!({"enable": true, "key": "dafault"})),
                {"name": "silent"}],
            "marker": "m2"}})),
        "GetProject" => match &*seen.path {
            "/api/v1/projects/silent" => ok(&json!({"data": project(
                "silent", &json!({"enable": true, "key": "alias/mine"}))})),
            "/api/v1/projects/kept" => complaint(403, "Forbidden.NoPermission"),
            _ => complaint(404, "ODPS-0420111"),
        },
        "DescribeKey" if seen.query == format!("KeyId={KEY}") => {
            ok(&key_metadata("Disabled", "2030-01-02T03:04:05Z"))
        }
        "DescribeKey" => complaint(404, "Forbidden.KeyNotFound"),
        other => complaint(400, other),
    }
}

#[tokio::test]
async fn projects_are_listed_at_once_and_keys_described() {
    let cloud = FakeCloud::start(play).await;
    let provider = cloud.by_environment();
    let (sales, hr, open, silent) = tokio::join!(
        provider.lookup("sales"),
        provider.lookup("hr"),
        provider.lookup("open"),
        provider.lookup("silent")
    );
    let sales = sales.unwrap().unwrap();
    assert_eq!((&*sales.project, sales.origin), ("sales", Origin::Cloud));
    let Encryption::Kms(key) = sales.encryption else {
        panic!("{sales:?}")
    };
    assert_eq!(key.id.as_deref(), Some(KEY));
    assert_eq!(key.algorithm.as_deref(), Some("AES256"));
    assert_eq!(key.state, KeyState::Disabled);
    assert_eq!(key.origin.as_deref(), Some("EXTERNAL"));
    assert_eq!(
        key.material_expires,
        timestamp::parse("2030-01-02T03:04:05Z")
    );
    assert_eq!(key.deletion, None);
    assert_eq!(hr.unwrap().unwrap().encryption, Encryption::DefaultKey);
    assert_eq!(open.unwrap().unwrap().encryption, Encryption::None);
    // Its key cannot be described; that it is encrypted is known all the same.
    let Encryption::Kms(key) = silent.unwrap().unwrap().encryption else {
        panic!("not encrypted")
    };
    assert_eq!(key.id.as_deref(), Some("alias/mine"));
    assert_eq!(key.state, KeyState::Unknown);
    assert_eq!(cloud.count("ListProjects"), 2, "two pages, once");
    assert_eq!(cloud.count("GetProject"), 1, "the one that was not listed");
    let nonces: HashSet<String> = cloud
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|seen| seen.header("x-acs-signature-nonce").to_owned())
        .collect();
    assert_eq!(nonces.len(), cloud.seen.lock().unwrap().len());
}

#[tokio::test]
async fn a_refusal_is_final_and_no_such_project_is_not_known() {
    let cloud = FakeCloud::start(play).await;
    let provider = cloud.by_environment();
    let error = provider.lookup("kept").await.unwrap_err().to_string();
    assert!(error.contains("Forbidden.NoPermission"), "{error}");
    assert_eq!(cloud.count("GetProject"), 1, "a refusal is not repeated");
    assert_eq!(provider.lookup("nowhere").await, Ok(None));
}

#[tokio::test]
async fn a_wrong_secret_is_told() {
    let cloud = FakeCloud::start(play).await;
    let keys = [("ACCESS_KEY_ID", "id"), ("ACCESS_KEY_SECRET", "wrong")];
    let provider = cloud.provider(CredentialSource::Environment, &keys);
    let error = provider.lookup("sales").await.unwrap_err().to_string();
    assert!(error.contains("SignatureDoesNotMatch.signature"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
}

#[tokio::test]
async fn throttling_is_waited_out_and_not_for_ever() {
    let cloud = FakeCloud::start(|seen, before| match seen.what() {
        "ListProjects" => complaint(403, "NoPermission"),
        "GetProject" if seen.path.ends_with("/busy") => complaint(400, "Throttling.User"),
        "GetProject" if before < 2 => complaint(429, "Rejected.Throttling"),
        _ => ok(&json!({"data": project("p", &json!({"enable": false}))})),
    })
    .await;
    let provider = cloud.by_environment();
    let start = Instant::now();
    assert!(provider.lookup("p").await.unwrap().is_some());
    assert_eq!(cloud.count("GetProject"), 3);
    assert!(start.elapsed() >= Duration::from_millis(300), "two pauses");
    let error = provider.lookup("busy").await.unwrap_err().to_string();
    assert!(error.starts_with("throttled"), "{error}");
    assert_eq!(cloud.count("GetProject"), 7, "four tries more");
    assert_eq!(
        cloud.count("ListProjects"),
        1,
        "a listing that failed rests"
    );
}

#[tokio::test]
async fn slowness_nonsense_and_nobody_are_failures() {
    let cloud = FakeCloud::start(|seen, _| match &*seen.path {
        "/api/v1/projects/slow" => Reply {
            delay: Duration::from_secs(3),
            ..ok(&json!({}))
        },
        "/api/v1/projects/broken" => Reply {
            body: "{\"data\": {".into(),
            ..ok(&json!({}))
        },
        "/api/v1/projects/unwell" => complaint(503, "ServiceUnavailable"),
        _ => complaint(403, "NoPermission"),
    })
    .await;
    let provider = cloud.by_environment();
    for (project, expected) in [
        ("slow", "no answer within 500ms"),
        ("broken", "not understood: GetProject"),
        ("unwell", "HTTP 503"),
    ] {
        let error = provider.lookup(project).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut nobody = cloud.by_environment();
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    nobody.cloud.maxcompute_endpoint = Some(Endpoint {
        port,
        ..cloud.endpoint.clone()
    });
    let error = nobody.lookup("p").await.unwrap_err().to_string();
    assert!(error.contains("connecting"), "{error}");
}

#[tokio::test]
async fn a_rest_that_the_cloud_asks_for_is_given() {
    let cloud = FakeCloud::start(|seen, before| match seen.what() {
        "ListProjects" => complaint(403, "NoPermission"),
        "GetProject" if seen.path.ends_with("/soon") && before == 0 => {
            complaint(429, "Throttling").with("retry-after", "1")
        }
        "GetProject" if seen.path.ends_with("/later") => {
            complaint(429, "Throttling").with("retry-after", "120")
        }
        _ => ok(&json!({"data": project("p", &json!({"enable": false}))})),
    })
    .await;
    let provider = cloud.by_environment();
    let start = Instant::now();
    assert!(provider.lookup("soon").await.unwrap().is_some());
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "the second asked for"
    );
    assert_eq!(cloud.count("GetProject"), 2);
    // Longer than anybody is kept waiting: nobody is, and nobody else asks meanwhile.
    let start = Instant::now();
    let error = provider.lookup("later").await.unwrap_err().to_string();
    assert!(error.starts_with("throttled"), "{error}");
    for project in ["later", "another"] {
        let error = provider.lookup(project).await.unwrap_err().to_string();
        assert!(
            error.contains("has asked to be left alone for 1"),
            "{error}"
        );
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(cloud.count("GetProject"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_date_says_how_long_a_rest_is_and_none_is_for_ever() {
    for (asked, rest) in [
        ("Thu, 26 Oct 2023 10:24:00 GMT", 120),
        ("100000000", 15 * 60),
        // Not understood, or over: as without one.
        ("soon", 0),
        ("Thu, 26 Oct 2023 10:21:00 GMT", 0),
    ] {
        let cloud = FakeCloud::start(move |seen, before| match seen.what() {
            "ListProjects" => complaint(403, "NoPermission"),
            "GetProject" if before == 0 => complaint(429, "Throttling")
                .with("date", "Thu, 26 Oct 2023 10:22:00 GMT")
                .with("retry-after", asked),
            _ => ok(&json!({"data": project("p", &json!({"enable": false}))})),
        })
        .await;
        let provider = cloud.by_environment();
        assert_eq!(provider.lookup("p").await.is_err(), rest > 0, "{asked}");
        if rest > 0 {
            tokio::time::sleep(Duration::from_secs(rest - 2)).await;
            assert!(provider.lookup("p").await.is_err(), "{asked}");
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert!(provider.lookup("p").await.is_ok(), "{asked}");
        }
    }
}

#[tokio::test]
async fn calls_are_signed_with_the_clouds_time() {
    for (behind, hours) in [(true, 5), (false, 30)] {
        let off = Duration::from_hours(hours);
        // What the cloud's clock shows; and another is refused.
        let there = move || {
            let now = SystemTime::now();
            if behind { now + off } else { now - off }
        };
        let cloud = FakeCloud::start(move |seen, _| {
            let date = timestamp::parse(seen.header("x-acs-date")).unwrap();
            let (early, late) = (there().duration_since(date), date.duration_since(there()));
            if early.or(late).unwrap() > Duration::from_mins(15) {
                return complaint(400, "InvalidTimeStamp.Expired")
                    .with("date", httpdate::fmt_http_date(there()));
            }
            match seen.what() {
                "ListProjects" => complaint(403, "NoPermission"),
                _ => ok(&json!({"data": project("p", &json!({"enable": false}))})),
            }
        })
        .await;
        cloud.takes_any_date();
        let provider = cloud.by_environment();
        assert!(provider.lookup("p").await.unwrap().is_some());
        assert!(provider.lookup("q").await.unwrap().is_some());
        assert_eq!(cloud.count("ListProjects"), 2, "refused once for its date");
        assert_eq!(cloud.count("GetProject"), 2, "and no other");
    }
    // A cloud that does not say what time it is, or goes on refusing, is believed.
    let cloud = FakeCloud::start(|_, _| complaint(400, "InvalidTimeStamp.Expired")).await;
    let error = cloud.by_environment().lookup("p").await.unwrap_err();
    assert!(error.to_string().contains("InvalidTimeStamp"), "{error}");
    assert!(cloud.count("GetProject") <= 2);
}

fn issued(token: &str, lives: Duration) -> Value {
    json!({"AccessKeyId": "STS.id", "AccessKeySecret": SECRET, "SecurityToken": token,
           "Expiration": timestamp::format(SystemTime::now() + lives), "Code": "Success"})
}

/// An instance whose role's tokens live as long as `lives`; the API takes the `good`th and later.
async fn instance(lives: Duration, good: usize) -> FakeCloud {
    let role = "/latest/meta-data/ram/security-credentials/osprey-role";
    FakeCloud::start(move |seen, before| match seen.what() {
        "/latest/api/token" if seen.method == "PUT" => Reply {
            body: "imds".into(),
            ..ok(&json!({}))
        },
        path if !path.starts_with("/latest/") => {
            let token = seen.header("x-acs-security-token");
            match token
                .strip_prefix("token-")
                .and_then(|n| n.parse::<usize>().ok())
            {
                None => complaint(400, "MissingSecurityToken"),
                Some(number) if number < good => complaint(400, "InvalidSecurityToken.Expired"),
                Some(_) => play(seen, before),
            }
        }
        _ if seen.header("x-aliyun-ecs-metadata-token") != "imds" => complaint(403, "token"),
        "/latest/meta-data/ram/security-credentials/" => Reply {
            body: "osprey-role".into(),
            ..ok(&json!({}))
        },
        path if path == role => ok(&issued(&format!("token-{before}"), lives)),
        other => complaint(404, other),
    })
    .await
}

const ROLE: &str = "/latest/meta-data/ram/security-credentials/osprey-role";

#[tokio::test]
async fn an_instance_role_is_found_last_and_kept() {
    let cloud = instance(Duration::from_hours(6), 0).await;
    let provider = cloud.provider(CredentialSource::Auto, &[]);
    assert!(provider.lookup("sales").await.unwrap().is_some());
    assert!(provider.lookup("silent").await.unwrap().is_some());
    assert_eq!(cloud.count(ROLE), 1);
}

#[tokio::test]
async fn a_token_about_to_end_is_renewed_before_it_does() {
    // Less than the 15 minutes: due at once.
    let cloud = instance(Duration::from_mins(10), 0).await;
    let provider = cloud.provider(CredentialSource::EcsRole, &[]);
    assert!(provider.lookup("open").await.unwrap().is_some());
    assert_eq!(cloud.count(ROLE), 2, "one for each page");
}

#[tokio::test]
async fn a_token_that_the_cloud_calls_expired_is_renewed_once() {
    let cloud = instance(Duration::from_hours(6), 1).await;
    let provider = cloud.provider(CredentialSource::EcsRole, &[]);
    assert!(provider.lookup("sales").await.unwrap().is_some());
    assert_eq!(cloud.count(ROLE), 2);

    let cloud = instance(Duration::from_hours(6), 1000).await;
    let provider = cloud.provider(CredentialSource::EcsRole, &[]);
    let error = provider.lookup("sales").await.unwrap_err().to_string();
    assert!(error.contains("InvalidSecurityToken.Expired"), "{error}");
    assert_eq!(cloud.count("ListProjects"), 2, "once more, and no more");
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_what_still_works() {
    let cloud = FakeCloud::start(|seen, before| match seen.what() {
        "/latest/api/token" if before > 0 => complaint(500, "down"),
        "/latest/api/token" => ok(&json!("imds")),
        path if path == ROLE => ok(&issued("token", Duration::from_mins(10))),
        _ => play(seen, before),
    })
    .await;
    let provider = cloud.provider(
        CredentialSource::EcsRole,
        &[("ECS_METADATA", "osprey-role")],
    );
    assert!(provider.lookup("sales").await.unwrap().is_some());
    assert_eq!(cloud.count("/latest/api/token"), 2, "and not at every call");
}

#[tokio::test]
async fn a_pod_assumes_its_role() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "a.jwt+token\n").unwrap();
    let cloud = FakeCloud::start(|seen, before| match seen.what() {
        "/" if seen.query.contains("Action=AssumeRoleWithOIDC")
            && seen.query.contains("Version=2015-04-01")
            && seen.header("authorization").is_empty()
            && seen.header("content-type") == "application/x-www-form-urlencoded"
            && seen.body.contains("OIDCToken=a.jwt%2Btoken")
            && seen.body.contains("RoleArn=acs%3Aram%3A%3A1%3Arole%2Fr") =>
        {
            ok(&json!({"Credentials": issued("assumed", Duration::from_hours(1))}))
        }
        "/" => complaint(400, "NotAsExpected"),
        _ if seen.header("x-acs-security-token") != "assumed" => complaint(400, "Token"),
        _ => play(seen, before),
    })
    .await;
    let variables = |file: &Path| {
        [
            ("ROLE_ARN", "acs:ram::1:role/r".to_owned()),
            ("OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/p".to_owned()),
            ("OIDC_TOKEN_FILE", file.display().to_string()),
        ]
    };
    let given = variables(&file);
    let given = given
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let provider = cloud.provider(CredentialSource::Auto, &given);
    assert!(provider.lookup("sales").await.unwrap().is_some());

    let given = variables(&directory.path().join("none"));
    let given = given
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let provider = cloud.provider(CredentialSource::Auto, &given);
    let error = provider.lookup("sales").await.unwrap_err().to_string();
    assert!(error.contains("no credentials: cannot read"), "{error}");
}

#[tokio::test]
async fn credentials_that_are_not_there_are_asked_for_by_name() {
    let cloud = FakeCloud::start(play).await;
    for (source, expected) in [
        (CredentialSource::Environment, "ALIBABA_CLOUD_ACCESS_KEY_ID"),
        (CredentialSource::Oidc, "ALIBABA_CLOUD_OIDC_TOKEN_FILE"),
        (CredentialSource::File, "credentials.ini"),
        (CredentialSource::Auto, "ECS_METADATA_DISABLED"),
    ] {
        let provider = cloud.provider(source, &[("ECS_METADATA_DISABLED", "true")]);
        let error = provider.lookup("sales").await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(cloud.seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn nobody_waits_twice_for_credentials_that_cannot_be_had() {
    let cloud = FakeCloud::start(|_, _| complaint(404, "NoRole")).await;
    let provider = cloud.provider(CredentialSource::Auto, &[]);
    for project in ["sales", "hr"] {
        let error = provider.lookup(project).await.unwrap_err().to_string();
        assert!(error.contains("metadata service"), "{error}");
    }
    assert_eq!(cloud.seen.lock().unwrap().len(), 1);
}

#[test]
fn names_of_keys() {
    for key in [
        KEY,
        "key-hzz62f1cb66fa42qo****",
        "alias/mine",
        "acs:kms:cn-shanghai:1:key/x",
    ] {
        assert!(is_kms_key(key), "{key}");
    }
    for key in [
        "",
        "default",
        "dafault",
        "DataWorks",
        "05754286-3ba2-4fa6-8d41",
    ] {
        assert!(!is_kms_key(key), "{key}");
    }
}

/// Of a key that KMS does not describe, it counts why: whether it never will, or may soon.
#[tokio::test]
async fn a_key_that_is_not_described_for_now_is_one_that_may_be_soon() {
    for (status, code, in_part) in [
        (500, "InternalFailure", true),
        (429, "Throttling.User", true),
        (403, "Forbidden.NoPermission", false),
        (404, "Forbidden.KeyNotFound", false),
    ] {
        let cloud = FakeCloud::start(move |seen, count| match seen.what() {
            "DescribeKey" => complaint(status, code),
            _ => play(seen, count),
        })
        .await;
        let provider = cloud.by_environment();
        let found = provider.lookup("sales").await.unwrap().unwrap();
        assert!(found.is_encrypted());
        assert_eq!(provider.was_in_part("sales"), in_part);
        assert!(!provider.was_in_part("open"));
    }
}
