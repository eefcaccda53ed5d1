//! RPM: a database of headers, in SQLite or in RPM's own `ndb` format.
//!
//! Formats: <https://rpm-software-management.github.io/rpm/manual/format_header.html>, and `lib/backend/ndb/rpmpkg.c`
//! of RPM for `Packages.db`.

mod header;
mod ndb;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use kiln_cache::ViewError;
use rusqlite::{Connection, OpenFlags};

use crate::inventory::Found;
use header::Header;

/// Where databases are, the newer place first.
const DIRECTORIES: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];
/// No image has more packages.
const MOST: usize = 1 << 20;
/// A database that is read into memory is no larger.
const LARGEST: u64 = 1 << 30;

pub(super) fn find(found: &mut Found<'_>, distribution: Option<&str>) -> Result<(), ViewError> {
    for directory in DIRECTORIES {
        let is_there = |name: &str| {
            let there = found.view.resolve(format!("{directory}/{name}").as_bytes(), true);
            there.is_ok_and(|there| there.found().is_some_and(|found| found.entry.is_file()))
        };
        let names = ["rpmdb.sqlite", "Packages.db", "Packages"].into_iter();
        let Some(name) = names.into_iter().find(|name| is_there(name)) else { continue };
        let path = format!("{directory}/{name}");
        let headers = match name {
            "rpmdb.sqlite" => sqlite(found, &path)?,
            "Packages.db" => match found.view.read(path.as_bytes(), LARGEST) {
                Ok(bytes) => ndb::headers(&bytes.unwrap_or_default()).map_err(str::to_owned),
                Err(ViewError::Store(error)) => return Err(error.into()),
                Err(error) => Err(error.to_string()),
            },
            _ => Err("an RPM database of the Berkeley DB format, which is not read".to_owned()),
        };
        match headers {
            Ok(headers) => {
                let packages = headers.iter().map(|bytes| Header::parse(bytes));
                let mut damaged = 0;
                for header in packages {
                    match header {
                        Some(header) => found.packages.extend(header.package(distribution, &path)),
                        None => damaged += 1,
                    }
                }
                if damaged > 0 {
                    found.problem(path.as_bytes(), &format!("{damaged} damaged headers"));
                }
            }
            Err(reason) => found.problem(path.as_bytes(), &reason),
        }
        // Both places are usually the same.
        return Ok(());
    }
    Ok(())
}

/// The headers of a SQLite database, or what is wrong with it.
fn sqlite(found: &Found<'_>, path: &str) -> Result<Result<Vec<Vec<u8>>, String>, ViewError> {
    let file = match found.view.open(path.as_bytes()) {
        Ok(file) => file,
        Err(ViewError::Store(error)) => return Err(error.into()),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let log = match found.view.read(format!("{path}-wal").as_bytes(), LARGEST) {
        Ok(log) => log.filter(|log| !log.is_empty()),
        Err(ViewError::Store(error)) => return Err(error.into()),
        Err(_) => None,
    };
    let read = match log {
        // Nobody writes to a layer.
        None => read_packages(&format!("file:/proc/self/fd/{}?immutable=1", file.as_raw_fd())),
        Some(log) => with_log(file, &log),
    };
    Ok(read.map_err(|error| error.to_string()))
}

/// What a write-ahead log has counts, and SQLite applies it to nothing but a copy.
fn with_log(mut file: std::fs::File, log: &[u8]) -> rusqlite::Result<Vec<Vec<u8>>> {
    let io = |error: std::io::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let copy = tempfile::tempdir().map_err(io)?;
    let path = copy.path().join("rpmdb.sqlite");
    let mut to = std::fs::File::create(&path).map_err(io)?;
    std::io::copy(&mut file, &mut to).map_err(io)?;
    let written = std::fs::File::create(copy.path().join("rpmdb.sqlite-wal")).and_then(|mut to| to.write_all(log));
    written.map_err(io)?;
    read_packages(&format!("file:{}", path.display()))
}

fn read_packages(uri: &str) -> rusqlite::Result<Vec<Vec<u8>>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags)?;
    // The schema is the image's: a view could count forever.
    connection.pragma_update(None, "trusted_schema", false)?;
    let kind = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'Packages' AND rootpage > 0";
    connection.query_row(kind, [], |_| Ok(()))?;
    let mut query = connection.prepare("SELECT blob FROM Packages LIMIT ?1")?;
    let rows = query.query_map([MOST as i64], |row| row.get::<_, Vec<u8>>(0))?;
    rows.collect()
}
