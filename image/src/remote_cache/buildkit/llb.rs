//! The operations of BuildKit's LLB as far as Dockerfiles need them, with the fields, their order and their names as in
//! its `solver/pb/ops.proto`. A field that is zero or empty is left out, as protocol buffers have it.

use serde::Serialize;

#[derive(Serialize)]
pub(super) struct ExecOp<'a> {
    pub(super) meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) mounts: Vec<Mount<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) network: u8,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) security: u8,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) secretenv: Vec<SecretEnv<'a>>,
}

#[derive(Clone, Serialize)]
pub(super) struct Meta<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) args: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) env: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) cwd: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) user: &'a str,
    #[serde(rename = "extraHosts", skip_serializing_if = "Vec::is_empty")]
    pub(super) extra_hosts: Vec<HostIp<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) hostname: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ulimit: Vec<Ulimit<'a>>,
    #[serde(rename = "cgroupParent", skip_serializing_if = "Option::is_none")]
    pub(super) cgroup_parent: Option<&'a str>,
    #[serde(rename = "removeMountStubsRecursive", skip_serializing_if = "is_zero")]
    pub(super) remove_mount_stubs_recursive: bool,
}

/// Its address is no part of any key.
#[derive(Clone, Serialize)]
pub(super) struct HostIp<'a> {
    #[serde(rename = "Host")]
    pub(super) host: &'a str,
}

#[derive(Clone, Serialize)]
pub(super) struct Ulimit<'a> {
    #[serde(rename = "Name")]
    pub(super) name: &'a str,
    #[serde(rename = "Soft", skip_serializing_if = "is_zero")]
    pub(super) soft: i64,
    #[serde(rename = "Hard", skip_serializing_if = "is_zero")]
    pub(super) hard: i64,
}

#[derive(Serialize)]
pub(super) struct SecretEnv<'a> {
    #[serde(rename = "ID")]
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) optional: bool,
}

/// Without its selector, which is no part of a key.
#[derive(Default, Serialize)]
pub(super) struct Mount<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<i64>,
    pub(super) dest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<i64>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) readonly: bool,
    #[serde(rename = "mountType", skip_serializing_if = "is_zero")]
    pub(super) mount_type: u8,
    #[serde(rename = "TmpfsOpt", skip_serializing_if = "Option::is_none")]
    pub(super) tmpfs: Option<TmpfsOpt>,
    #[serde(rename = "cacheOpt", skip_serializing_if = "Option::is_none")]
    pub(super) cache: Option<CacheOpt<'a>>,
    #[serde(rename = "secretOpt", skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<CredentialOpt<'a>>,
    #[serde(rename = "SSHOpt", skip_serializing_if = "Option::is_none")]
    pub(super) ssh: Option<CredentialOpt<'a>>,
}

#[derive(Serialize)]
pub(super) struct TmpfsOpt {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) size: u64,
}

#[derive(Default, Serialize)]
pub(super) struct CacheOpt<'a> {
    #[serde(rename = "ID", skip_serializing_if = "str::is_empty")]
    pub(super) id: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) sharing: u8,
}

#[derive(Serialize)]
pub(super) struct CredentialOpt<'a> {
    #[serde(rename = "ID", skip_serializing_if = "str::is_empty")]
    pub(super) id: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) uid: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) gid: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) mode: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) optional: bool,
}

#[derive(Serialize)]
pub(super) struct MergeOp {
    pub(super) inputs: [MergeInput; 2],
}

#[derive(Serialize)]
pub(super) struct MergeInput {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct FileActionCopy<'a> {
    pub(super) src: &'a str,
    pub(super) dest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<ChownOpt<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) mode: i32,
    #[serde(rename = "followSymlink", skip_serializing_if = "is_zero")]
    pub(super) follow_symlink: bool,
    #[serde(rename = "dirCopyContents", skip_serializing_if = "is_zero")]
    pub(super) dir_copy_contents: bool,
    #[serde(rename = "attemptUnpackDockerCompatibility", skip_serializing_if = "is_zero")]
    pub(super) attempt_unpack: bool,
    #[serde(rename = "createDestPath", skip_serializing_if = "is_zero")]
    pub(super) create_dest_path: bool,
    #[serde(rename = "allowWildcard", skip_serializing_if = "is_zero")]
    pub(super) allow_wildcard: bool,
    #[serde(rename = "allowEmptyWildcard", skip_serializing_if = "is_zero")]
    pub(super) allow_empty_wildcard: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) timestamp: i64,
}

#[derive(Serialize)]
pub(super) struct FileActionMkFile<'a> {
    pub(super) path: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) mode: i32,
    /// In base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<ChownOpt<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) timestamp: i64,
}

#[derive(Serialize)]
pub(super) struct FileActionMkDir<'a> {
    pub(super) path: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) mode: i32,
    #[serde(rename = "makeParents", skip_serializing_if = "is_zero")]
    pub(super) make_parents: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<ChownOpt<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) timestamp: i64,
}

#[derive(Serialize)]
pub(super) struct ChownOpt<'a> {
    pub(super) user: UserOpt<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<UserOpt<'a>>,
}

#[derive(Serialize)]
pub(super) struct UserOpt<'a> {
    #[serde(rename = "User")]
    pub(super) user: User<'a>,
}

#[derive(Default, Serialize)]
pub(super) struct User<'a> {
    #[serde(rename = "byName", skip_serializing_if = "Option::is_none")]
    pub(super) by_name: Option<NamedUserOpt<'a>>,
    /// As older generations write it.
    #[serde(rename = "byID", skip_serializing_if = "is_zero")]
    pub(super) by_id_old: u32,
    #[serde(rename = "byId", skip_serializing_if = "is_zero")]
    pub(super) by_id: u32,
}

#[derive(Serialize)]
pub(super) struct NamedUserOpt<'a> {
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<i64>,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
