//! Database URLs by the rules of Laravel's `ConfigurationUrlParser`: a URL overrides the separate parameters, each
//! part is raw-URL-decoded, the query string is merged in, and some schemes are other names for an engine.
//! (`sqlite:///x` is the relative path `x`, an absolute one has four slashes.) Prisma's `file:./dev.db` is taken too.

use zeroize::Zeroizing;

/// The parts of a URL by the names of a connection's parameters.
pub(super) type Parts = Vec<(&'static str, Zeroizing<String>)>;

/// Takes a URL apart. The error says what is wrong and never repeats the URL, which may hold a password.
pub(super) fn parse(url: &str) -> Result<Parts, &'static str> {
    if let Some(path) = url.strip_prefix("file:") {
        return Ok(file(path));
    }
    let (scheme, rest) = url.split_once("://").ok_or("has no scheme")?;
    let engine = canonical_engine(scheme);
    let mut parts: Parts = vec![("engine", Zeroizing::new(engine.to_owned()))];
    if scheme == "rediss" {
        parts.push(("tls", Zeroizing::new("required".to_owned())));
    }
    let (rest, query) = split_off(rest.split_once('#').map_or(rest, |(rest, _)| rest), '?');
    // A password may hold an unescaped `/` or `@` only in broken URLs: the last `@` before the path ends the user.
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    push_authority(&mut parts, authority)?;
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        let name = if engine == "sqlite" { "path" } else { "database" };
        parts.push((name, decode(path)?));
    }
    if engine == "mongodb" {
        mongodb(&mut parts, scheme, query)?;
        return Ok(parts);
    }
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        if let Some(name) = query_parameter(&decode(key)?) {
            parts.retain(|(known, _)| *known != name);
            parts.push((name, decode(value)?));
        }
    }
    Ok(parts)
}

/// `mysql2`, `postgres` and the like by the names that this program uses.
pub(super) fn canonical_engine(word: &str) -> &str {
    match word {
        "mysql2" => "mysql",
        "mongodb+srv" => "mongodb",
        "rediss" => "redis",
        "postgres" | "pgsql" => "postgresql",
        "sqlite3" | "file" => "sqlite",
        other => other,
    }
}

fn file(path: &str) -> Parts {
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = split_off(path, '?').0;
    vec![("engine", Zeroizing::new("sqlite".to_owned())), ("path", Zeroizing::new(path.to_owned()))]
}

/// Options of MongoDB stay as they are written: its own programs read them. `srv` and `auth_source` are what they hang on.
fn mongodb(parts: &mut Parts, scheme: &str, query: &str) -> Result<(), &'static str> {
    let mut options = query.split('&').filter_map(|pair| pair.split_once('='));
    let named = options.find(|(key, _)| key.eq_ignore_ascii_case("authSource")).map(|(_, value)| decode(value)).transpose()?;
    let of_path = parts.iter().find(|(name, _)| *name == "database").map(|(_, value)| value.clone());
    let srv = scheme == "mongodb+srv";
    // The DNS record of a `+srv` name says it where the URL does not.
    if let Some(source) = named.or(of_path.filter(|_| !srv)) {
        parts.push(("auth_source", source));
    }
    if srv {
        parts.push(("srv", Zeroizing::new("yes".to_owned())));
    }
    parts.push(("options", Zeroizing::new(query.to_owned())));
    Ok(())
}

fn split_off(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

fn push_authority(parts: &mut Parts, authority: &str) -> Result<(), &'static str> {
    let (login, server) = match authority.rsplit_once('@') {
        Some((login, server)) => (Some(login), server),
        None => (None, authority),
    };
    if let Some(login) = login {
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        push_decoded(parts, "user", user)?;
        if let Some(password) = password {
            push_decoded(parts, "password", password)?;
        }
    }
    let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => server.rsplit_once(':').map_or((server, None), |(host, port)| (host, Some(port))),
    };
    push_decoded(parts, "host", host)?;
    port.map_or(Ok(()), |port| push_decoded(parts, "port", port))
}

fn push_decoded(parts: &mut Parts, name: &'static str, text: &str) -> Result<(), &'static str> {
    if !text.is_empty() {
        parts.push((name, decode(text)?));
    }
    Ok(())
}

fn query_parameter(key: &str) -> Option<&'static str> {
    Some(match key {
        "unix_socket" | "socket" | "socketPath" => "socket",
        "charset" => "charset",
        "host" => "host",
        "port" => "port",
        "username" | "user" => "user",
        "password" => "password",
        "database" => "database",
        "sslmode" => "tls",
        "sslca" | "ssl_ca" | "sslcert" | "sslrootcert" => "tls_ca",
        _ => return None,
    })
}

/// PHP's `rawurldecode`: `%XX`, and `+` stays a plus; what is no valid escape stays as it is.
fn decode(text: &str) -> Result<Zeroizing<String>, &'static str> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex_digit(*high) << 4 | hex_digit(*low));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| "is not UTF-8 after decoding")
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(url: &str) -> String {
        let mut parts: Vec<String> = parse(url).unwrap().iter().map(|(name, value)| format!("{name}={}", value.as_str())).collect();
        parts.sort();
        parts.join(" ")
    }

    #[test]
    fn every_part_is_decoded_and_the_query_merged() {
        assert_eq!(
            text("mysql://u%40x:p%23%2F%25+%C3%A9@db:3307/shop"),
            "database=shop engine=mysql host=db password=p#/%+é port=3307 user=u@x"
        );
        assert_eq!(
            text("mysql://root@localhost/a?unix_socket=%2Frun%2Fs.sock&charset=latin1&strict=true"),
            "charset=latin1 database=a engine=mysql host=localhost socket=/run/s.sock user=root"
        );
        assert_eq!(text("mariadb://u:p@[::1]:3306/a"), "database=a engine=mariadb host=::1 password=p port=3306 user=u");
    }

    #[test]
    fn three_slashes_are_relative_and_four_absolute() {
        assert_eq!(text("sqlite:///database/app.sqlite"), "engine=sqlite path=database/app.sqlite");
        assert_eq!(text("sqlite:////srv/app.sqlite"), "engine=sqlite path=/srv/app.sqlite");
        assert_eq!(text("file:./dev.db?connection_limit=1"), "engine=sqlite path=./dev.db");
    }

    #[test]
    fn aliases_name_the_engine() {
        for scheme in ["postgres", "postgresql", "pgsql"] {
            assert_eq!(
                text(&format!("{scheme}://u:p@h:5433/x?schema=public&sslmode=verify-full&sslrootcert=/ca.pem")),
                "database=x engine=postgresql host=h password=p port=5433 tls=verify-full tls_ca=/ca.pem user=u"
            );
        }
        assert_eq!(text("postgresql://u@/x?host=/run/postgresql"), "database=x engine=postgresql host=/run/postgresql user=u");
        assert!(text("mysql2://h/x").contains("engine=mysql"));
        assert!(text("sqlite3:///x").contains("engine=sqlite"));
    }

    #[test]
    fn options_of_mongodb_stay_as_they_are() {
        assert_eq!(
            text("mongodb://u:p%40@a:27018,b:27019/shop?replicaSet=rs0&tls=true"),
            "auth_source=shop database=shop engine=mongodb host=a:27018,b options=replicaSet=rs0&tls=true password=p@ port=27019 user=u"
        );
        assert_eq!(
            text("mongodb+srv://u:p@c.example.net/shop?retryWrites=true"),
            "database=shop engine=mongodb host=c.example.net options=retryWrites=true password=p srv=yes user=u"
        );
        assert!(text("mongodb://h/shop?authSource=admin").contains("auth_source=admin"));
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        assert_eq!(parse("u:secret@h/x").unwrap_err(), "has no scheme");
    }
}
