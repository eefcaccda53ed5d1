//! What the token of a job of GitHub Actions says that it may do.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

const READ: u64 = 1;
const WRITE: u64 = 2;

/// Entries that belong to a branch or tag.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Scope {
    pub(super) scope: String,
    permission: u64,
}

/// The claims of a token, as far as they matter here.
#[derive(Deserialize)]
struct Claims {
    ac: String,
}

impl Scope {
    pub(super) fn is_readable(&self) -> bool {
        self.permission & READ != 0
    }

    pub(super) fn is_writable(&self) -> bool {
        self.permission & WRITE != 0
    }
}

/// The scopes that a token opens. Whether it is genuine is for the service to find out.
pub(super) fn scopes(token: &str) -> Result<Vec<Scope>, &'static str> {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
    let claims = claims.ok_or("its token is not one of GitHub Actions")?;
    let claims: Claims =
        serde_json::from_slice(&claims).map_err(|_| "its token says nothing of what it is for (`ac`)")?;
    serde_json::from_str(&claims.ac).map_err(|_| "its token says nothing of what it is for (`ac`)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_scopes() {
        let token = |claims: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        let found = scopes(&token(r#"{"ac":"[{\"Scope\":\"refs/heads/x\",\"Permission\":3}]","exp":1}"#)).unwrap();
        assert_eq!(found, [Scope { scope: "refs/heads/x".to_owned(), permission: 3 }]);
        assert!(found[0].is_readable() && found[0].is_writable());
        assert!(!Scope { scope: String::new(), permission: 1 }.is_writable());
        for wrong in ["", "hidden", "a.%.c", &token("{}"), &token(r#"{"ac":"x"}"#)] {
            assert!(!scopes(wrong).unwrap_err().contains("hidden"), "{wrong}");
        }
    }
}
