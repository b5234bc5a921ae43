//! RAM's side: may Hologres use the keys? (Vendor's page, *Procedure*, steps 1 and 2.)

use serde_json::Value;

use super::finding::Finding;
use crate::config::Settings;
use crate::glob::Glob;
use crate::keys::cloud::{AlibabaCloud, CloudError, Surroundings};

/// The role that the vendor's page has one create.
const ROLE: &str = "AliyunHologresEncryptionDefaultRole";
/// The service-linked role that serves as well.
const LINKED: &str = "AliyunServiceRoleForHologresEncryption";
/// What the role must be allowed.
const ACTIONS: [&str; 4] = [
    "kms:Encrypt",
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "kms:DescribeKey",
];
const SUBJECT: &str = "role";

/// Checks the role, if the cloud can be asked and something needs it.
pub(super) async fn examine(
    settings: &Settings,
    needed: bool,
    common_table: bool,
    findings: &mut Vec<Finding>,
) {
    // The common-table route decrypts by itself; the vendor's page names no role for it.
    if !needed || common_table {
        return;
    }
    let Some(cloud) = &settings.keys.cloud else {
        findings.push(Finding::info(
            "role-not-checked",
            SUBJECT,
            format!("whether {ROLE} lets Hologres use the keys was not checked: no [keys.cloud]"),
            "add [keys.cloud] with a region, or compare the RAM console with deploy/ram/README.md",
        ));
        return;
    };
    let cloud = AlibabaCloud::new(cloud.clone(), Surroundings::of_process());
    check(&cloud, findings).await;
}

pub(super) async fn check(cloud: &AlibabaCloud, findings: &mut Vec<Finding>) {
    match role(cloud).await {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(Finding::warning(
            "role-lookup-failed",
            SUBJECT,
            format!("{ROLE} cannot be checked: {error}"),
            "grant Osprey's account ram:GetRole, ram:ListPoliciesForRole and ram:GetPolicy \
             (deploy/ram/osprey-policy.json)",
        )),
    }
}

async fn role(cloud: &AlibabaCloud) -> Result<Vec<Finding>, CloudError> {
    let Some(role) = cloud.role(ROLE).await? else {
        return Ok(vec![match cloud.role(LINKED).await? {
            Some(_) => Finding::ok(
                "role",
                SUBJECT,
                format!("{LINKED} lets Hologres use the keys"),
            ),
            None => Finding::broken(
                "role-missing",
                SUBJECT,
                format!("there is neither {ROLE} nor {LINKED}: Hologres may not use the keys"),
                format!(
                    "RAM console, Roles, Create Role, Alibaba Cloud Service, Hologres, named {ROLE}; \
                     or as deploy/ram/README.md says"
                ),
            ),
        }]);
    };
    let mut findings = Vec::new();
    if trusts_hologres(&role.assume_role_policy_document) {
        findings.push(Finding::ok(
            "role",
            SUBJECT,
            format!("{ROLE} trusts Hologres"),
        ));
    } else {
        findings.push(Finding::broken(
            "role-trust",
            SUBJECT,
            format!("{ROLE} does not trust Hologres"),
            format!(
                "RAM console, Roles, {ROLE}, Trust Policy: replace it by \
                 deploy/ram/hologres-trust-policy.json"
            ),
        ));
    }
    let mut documents = Vec::new();
    for policy in cloud.policies(ROLE).await? {
        documents.push(cloud.policy_document(&policy).await?);
    }
    let missing = missing(&documents);
    if missing.is_empty() {
        findings.push(Finding::ok("role", SUBJECT, format!("{ROLE} may use KMS")));
    } else {
        findings.push(Finding::broken(
            "role-policies",
            SUBJECT,
            format!("the policies of {ROLE} do not allow {}", missing.join(", ")),
            format!(
                "RAM console, Policies: create AliyunHologresEncryptionDefaultRolePolicy from \
                 deploy/ram/hologres-encryption-policy.json; then Roles, {ROLE}, Grant Permission"
            ),
        ));
    }
    Ok(findings)
}

fn trusts_hologres(document: &str) -> bool {
    statements(document).iter().any(|statement| {
        let services = texts(&statement["Principal"]["Service"]);
        allows(statement)
            && matches_any(&statement["Action"], "sts:AssumeRole")
            && services.iter().any(|service| {
                *service == "hologres.aliyuncs.com" || service.ends_with(".hologres.aliyuncs.com")
            })
    })
}

/// The actions on keys that no statement allows, or that one denies.
fn missing(documents: &[String]) -> Vec<&'static str> {
    let statements: Vec<Value> = documents.iter().flat_map(|d| statements(d)).collect();
    let about = |effect: bool, action: &str| {
        statements.iter().any(|statement| {
            allows(statement) == effect
                && matches_any(&statement["Action"], action)
                && texts(&statement["Resource"])
                    .iter()
                    .any(|resource| *resource == "*" || resource.starts_with("acs:kms:"))
        })
    };
    ACTIONS
        .into_iter()
        .filter(|action| !about(true, action) || about(false, action))
        .collect()
}

fn statements(document: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    document["Statement"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn allows(statement: &Value) -> bool {
    statement["Effect"] == "Allow"
}

/// A text, or a list of texts.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn matches_any(actions: &Value, action: &str) -> bool {
    texts(actions)
        .iter()
        .any(|pattern| Glob::new(pattern).matches(action.as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::{Level, worst};
    use super::*;
    use crate::keys::cloud::fake::{FakeCloud, Seen, complaint, ok};

    const TRUST: &str = include_str!("../../../deploy/ram/hologres-trust-policy.json");
    const POLICY: &str = include_str!("../../../deploy/ram/hologres-encryption-policy.json");

    #[test]
    fn the_shipped_documents_are_what_is_asked_for() {
        assert!(trusts_hologres(TRUST));
        assert_eq!(missing(&[POLICY.into()]), [""; 0]);
        let own = include_str!("../../../deploy/ram/osprey-policy.json");
        let actions: Vec<Value> = statements(own);
        for action in [
            "odps:GetProject",
            "odps:ListProjects",
            "kms:DescribeKey",
            "ram:GetRole",
            "ram:ListPoliciesForRole",
            "ram:GetPolicy",
        ] {
            let granted = actions.iter().any(|s| matches_any(&s["Action"], action));
            assert!(granted, "{action}");
        }
    }

    #[test]
    fn what_does_not_trust_hologres() {
        for document in [
            "",
            "{}",
            &TRUST.replace("hologres.aliyuncs.com", "ecs.aliyuncs.com"),
            &TRUST.replace("hologres.aliyuncs.com", "evilhologres.aliyuncs.com"),
            &TRUST.replace("Allow", "Deny"),
        ] {
            assert!(!trusts_hologres(document), "{document}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = POLICY.replace("kms:Decrypt", "kms:ListKeys");
        assert_eq!(missing(&[without]), ["kms:Decrypt"]);
        let all = r#"{"Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}"#;
        assert_eq!(missing(&[all.into()]), [""; 0]);
        let denied = r#"{"Statement":[{"Effect":"Deny","Action":["kms:Enc*"],"Resource":"*"}]}"#;
        assert_eq!(missing(&[all.into(), denied.into()]), ["kms:Encrypt"]);
        let elsewhere = POLICY.replace("acs:kms:*:*:*/*", "acs:oss:*:*:*");
        assert_eq!(missing(&[elsewhere]), ACTIONS);
    }

    /// What RAM says of the roles: which there are, and what is attached.
    async fn checked(role: &'static str, trust: &'static str, policy: &str) -> Vec<Finding> {
        let policy = policy.to_owned();
        let cloud = FakeCloud::start(move |seen: &Seen, _| match seen.what() {
            "GetRole" if seen.query == format!("RoleName={role}") => {
                ok(&json!({"Role": {"RoleName": role, "AssumeRolePolicyDocument": trust}}))
            }
            "GetRole" if role != "kept" => complaint(404, "EntityNotExist.Role"),
            "ListPoliciesForRole" => ok(&json!({"Policies": {"Policy": [
                {"PolicyName": "P", "PolicyType": "Custom"}]}})),
            "GetPolicy" if seen.query == "PolicyName=P&PolicyType=Custom" => ok(&json!({
                "DefaultPolicyVersion": {"PolicyDocument": policy}})),
            _ => complaint(403, "NoPermission"),
        })
        .await;
        let mut findings = Vec::new();
        check(&cloud.by_environment(), &mut findings).await;
        findings
    }

    #[tokio::test]
    async fn the_role_as_ram_tells_it() {
        assert_eq!(worst(&checked(ROLE, TRUST, POLICY).await), Level::Ok);
        assert_eq!(worst(&checked(LINKED, TRUST, POLICY).await), Level::Ok);
        let without = POLICY.replace("kms:Decrypt", "kms:ListKeys");
        for (role, trust, policy, says) in [
            (ROLE, TRUST, &*without, "do not allow kms:Decrypt"),
            (ROLE, "{}", POLICY, "does not trust Hologres"),
            ("Other", TRUST, POLICY, "there is neither"),
        ] {
            let findings = checked(role, trust, policy).await;
            assert_eq!(worst(&findings), Level::Broken, "{says}");
            assert!(findings.iter().any(|f| f.found.contains(says)), "{says}");
        }
        let findings = checked("kept", TRUST, POLICY).await;
        assert_eq!(worst(&findings), Level::Warning);
        assert!(findings[0].found.contains("NoPermission"), "{findings:?}");
    }
}
