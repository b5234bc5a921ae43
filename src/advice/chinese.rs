//! The table of texts, in Simplified Chinese.

use super::{CATALOG_ROUTING, COMMON_TABLE, Case, Facts, NotRetried, ORC_VIA_HOLO, Text};
use crate::catalog::HologresVersion;

pub(super) fn detail(case: Case, not_retried: Option<NotRetried>, original: &str) -> String {
    let code = case.code();
    match not_retried.map(why) {
        None => format!("{code}。Hologres 返回：{original}"),
        Some(why) => format!("{code}。该语句未被重新执行，原因：{why}。Hologres 返回：{original}"),
    }
}

fn why(not_retried: NotRetried) -> &'static str {
    match not_retried {
        NotRetried::SwitchedOff => "Osprey 的配置关闭了自动重新执行",
        NotRetried::InTransaction => "它所在的事务无法从头重新执行",
        NotRetried::RowsSent => "结果中的部分行已经发送给客户端",
        NotRetried::Writes => "它不是只读语句",
        NotRetried::UnknownFunction => "它调用的函数不一定可以安全地执行两次",
        NotRetried::TooLarge => "语句太长，没有保留",
        NotRetried::CycleNotComplete => "客户端尚未发送 Sync，可能正在等待结果",
        NotRetried::Pipelined => "客户端已经发送了后续语句",
        NotRetried::FailedAgain => "已经重新执行过一次，并再次失败",
        NotRetried::AnsweredDifferently => "第二次执行的结果与已经发送的内容不同",
        NotRetried::ClientSetRoute => "客户端自行选择了引擎",
        NotRetried::RouteWasSet => "执行前已经选择了可读取加密数据的引擎",
        NotRetried::RouteNotSet => "未能切换到可读取加密数据的引擎",
    }
}

pub(super) fn text(case: Case, facts: &Facts<'_>) -> Text {
    let data = data(facts);
    let key = facts
        .key_id()
        .map_or_else(|| "该项目的 KMS 密钥".into(), |id| format!("KMS 密钥 {id}"));
    let to_sqe = facts.alter_database_to_sqe();
    let verify_sqe = format!("在新连接中验证：SHOW {ORC_VIA_HOLO}; 结果应为 off（或 false）。");
    let version = facts
        .version
        .map_or_else(|| "当前版本".into(), |version| version.to_string());
    let cached = "Hologres 最多缓存密钥信息 24 小时，因此修改可能需要等待同样长的时间才能生效。";
    let (happened, to_do, hint) = match case {
        Case::HqeOnEncryptedData => (
            format!("Hologres 的 HQE 引擎无法读取{data}，因为其数据使用 KMS 密钥（BYOK）加密。"),
            "请由数据库所有者执行一次 HINT 中的语句，然后重新连接并再次执行查询。".into(),
            format!("{to_sqe}\n{verify_sqe}"),
        ),
        Case::ClientChoseHqe => (
            format!("Hologres 的 HQE 引擎无法读取{data}，因为其数据使用 KMS 密钥（BYOK）加密，而本会话自行设置了 {ORC_VIA_HOLO}，选择了 HQE。"),
            "请从客户端中去掉该 SET 语句，或执行 HINT 中的第一条语句，然后再次执行查询。".into(),
            format!("SET {ORC_VIA_HOLO} = false;\n对所有不自行设置该参数的新连接：{to_sqe}\n{verify_sqe}"),
        ),
        Case::RouteDidNotHelp => (
            format!("本会话已使用可读取加密数据的引擎，但 Hologres 仍无法读取{data}。"),
            "请依次检查：项目使用的是自有密钥（BYOK）且该密钥在 KMS 中已启用；RAM 角色 AliyunHologresEncryptionDefaultRole 的受信服务为 Hologres 并已授予相应权限策略。".into(),
            format!("在本会话中 SHOW {ORC_VIA_HOLO}; 的结果应为 off（或 false）。Hologres V3.2 及以上版本还可以执行：{}\n在新连接中验证：SHOW {CATALOG_ROUTING};", facts.alter_database_to_common_table()),
        ),
        Case::DefaultKey if facts.version_is_before(HologresVersion::COMMON_TABLE) => (
            format!("Hologres {version} 无法读取{data}，因为其数据使用 MaxCompute 默认密钥加密，而不是用户自有的 KMS 密钥。"),
            "请将实例升级到 V3.2 或以上版本后执行 HINT 中的语句，或让该项目改用自有密钥（BYOK）加密。".into(),
            format!("升级后执行：{}\n在新连接中验证：SHOW {CATALOG_ROUTING}; 结果应为 {COMMON_TABLE}。", facts.alter_database_to_common_table()),
        ),
        Case::DefaultKey => (
            format!("HQE 和 SQE 引擎都无法读取{data}，因为其数据使用 MaxCompute 默认密钥加密；Hologres V3.2 及以上版本可以通过 Common Table 方式读取。"),
            "请由数据库所有者执行一次 HINT 中的语句，然后重新连接并再次执行查询。".into(),
            format!("{}\n在新连接中验证：SHOW {CATALOG_ROUTING}; 结果应为 {COMMON_TABLE}。", facts.alter_database_to_common_table()),
        ),
        Case::VersionTooOld => (
            format!("Hologres {version} 无法读取{data}，读取加密的 MaxCompute 数据需要 V1.1 或以上版本。"),
            "请将实例升级到 V1.3.31 或以上版本。".into(),
            format!("升级后用 SELECT hg_version(); 确认版本，并执行：{to_sqe}\n{verify_sqe}"),
        ),
        Case::NeedsBackendConfiguration => (
            format!("Hologres {version} 低于 V1.3.31，未经后台配置无法读取{data}，因为其数据已加密。"),
            "请联系 Hologres 技术支持添加后台配置，或将实例升级到 V1.3.31 或以上版本。".into(),
            format!("之后执行：{to_sqe}\n{verify_sqe}"),
        ),
        Case::KeyDisabled => (
            format!("Hologres 无法读取{data}，因为{key}已被禁用。"),
            "请在 KMS 中启用该密钥，然后再次执行查询。".into(),
            format!("在 KMS 控制台的密钥列表中选择该密钥并启用{}。{cached}", cli("EnableKey", facts)),
        ),
        Case::KeyPendingDeletion => (
            format!("Hologres 无法读取{data}，因为{key}处于待删除状态。"),
            "请立即在 KMS 中取消删除，密钥一旦删除，数据将永久无法读取。".into(),
            format!("在 KMS 控制台的密钥列表中选择该密钥并取消删除{}。{cached}", cli("CancelKeyDeletion", facts)),
        ),
        Case::KeyMaterialMissing => (
            format!("Hologres 无法读取{data}，因为{key}的导入密钥材料缺失或已过期。"),
            "请在 KMS 中重新导入相同的密钥材料，然后再次执行查询。".into(),
            format!("在 KMS 控制台的密钥列表中选择该密钥并导入密钥材料；只有原来的密钥材料才能解密数据。{cached}"),
        ),
        Case::KeyNotFound => (
            format!("Hologres 无法读取{data}，因为 KMS 中找不到{key}。"),
            "请在 KMS 中检查该密钥是否存在于项目所在地域，并属于同一账号。".into(),
            format!("在 KMS 控制台中切换到 MaxCompute 项目所在地域查看密钥列表{}。已删除的密钥无法恢复。", cli("DescribeKey", facts)),
        ),
        Case::RoleOrPolicyMissing => (
            format!("Hologres 无法读取{data}，因为它没有使用{key}的权限。"),
            "请按 HINT 为 Hologres 创建 RAM 角色 AliyunHologresEncryptionDefaultRole 并授予权限策略，然后再次执行查询。".into(),
            "在 RAM 控制台创建权限策略 AliyunHologresEncryptionDefaultRolePolicy，允许对 acs:kms:*:*:*/* 执行 kms:Encrypt、kms:Decrypt、kms:GenerateDataKey 和 kms:DescribeKey；再创建受信服务为 Hologres 的角色 AliyunHologresEncryptionDefaultRole，并为其授予该策略。完成后检查该角色的信任策略是否为 Hologres。".into(),
        ),
    };
    Text {
        happened,
        to_do,
        hint,
    }
}

/// What could not be read; follows a Chinese verb without a space.
fn data(facts: &Facts<'_>) -> String {
    match (facts.relation, facts.project) {
        (Some(relation), Some(project)) => format!(" {relation}（MaxCompute 项目 {project}）"),
        (Some(relation), None) => format!(" {relation} "),
        (None, Some(project)) => format!(" MaxCompute 项目 {project} "),
        (None, None) => "该 MaxCompute 数据".into(),
    }
}

fn cli(action: &str, facts: &Facts<'_>) -> String {
    facts.key_id().map_or_else(String::new, |id| {
        format!("，或执行：aliyun kms {action} --KeyId {id}")
    })
}
