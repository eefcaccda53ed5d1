//! The port specifications of `EXPOSE`: `[[ip:]host:]port[-port][/protocol]`.

/// The ports of one specification, `80/tcp` each. Docker accepts a host part here and ignores it.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn parse(text: &str) -> Result<Vec<String>, String> {
    let (host, container) = split_host(text);
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    let protocol = match protocol.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err(format!("`{protocol}` is not a protocol: expected `tcp`, `udp` or `sctp`")),
    };
    if range.is_empty() {
        return Err("there is no port in it".to_owned());
    }
    let (first, last) =
        parse_range(range).ok_or_else(|| format!("`{range}` is not a port or a range of ports from 0 to 65535"))?;
    check_host(host, first, last)?;
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// What stands before the container's part, and that part.
fn split_host(text: &str) -> (Option<&str>, &str) {
    match text.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, text),
    }
}

fn check_host(host: Option<&str>, first: u16, last: u16) -> Result<(), String> {
    let Some(host) = host else { return Ok(()) };
    let (address, ports) = match host.rsplit_once(':') {
        Some((address, ports)) => (address, ports),
        None => ("", host),
    };
    let bare = address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("`{address}` is not an IP address"));
    }
    if ports.is_empty() {
        return Ok(());
    }
    let (host_first, host_last) =
        parse_range(ports).ok_or_else(|| format!("`{ports}` is not a port or a range of ports from 0 to 65535"))?;
    if host_last - host_first != last - first && first != last {
        return Err("the two ranges of ports have different lengths".to_owned());
    }
    Ok(())
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match text.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
        None => number(text).map(|port| (port, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        let cases: &[(&str, &[&str])] = &[
            ("80", &["80/tcp"]),
            ("53/UDP", &["53/udp"]),
            ("80/", &["80/tcp"]),
            ("7000-7002/sctp", &["7000/sctp", "7001/sctp", "7002/sctp"]),
            ("8080:80", &["80/tcp"]),
            ("127.0.0.1:8080:80", &["80/tcp"]),
            ("[::1]:8080:80", &["80/tcp"]),
            ("8000-8010:80", &["80/tcp"]),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap(), *expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_ports() {
        for text in ["", "/tcp", "http", "80/icmp", "65536", "-1", "2-1", "1-2-3", "a:b:80", "1-2:3-5", "+80"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
