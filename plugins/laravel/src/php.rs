//! Reads what can be read without running PHP from a configuration file that returns an array: literals, `env()`,
//! and the path helpers. Everything else is [`Value::Other`], which is reported and never guessed.

/// A value of a PHP configuration array.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A literal text or number.
    Text(String),
    /// `env('NAME', default)`.
    Env(String, Box<Value>),
    /// `database_path('x')` and its like: relative to the root.
    Path(String),
    /// `[ 'key' => value, … ]`; values without a key have an empty one.
    Array(Vec<(String, Value)>),
    /// `null`, or no default.
    Null,
    /// Needs PHP.
    Other,
}

impl Value {
    /// The value under `key` of an array.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Array(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// The array that the file returns; [`Value::Other`] when it returns something else.
pub fn parse(text: &str) -> Value {
    let tokens = tokens(text);
    let start = tokens.iter().position(|token| *token == Token::Word("return".to_owned()));
    let mut parser = Parser { tokens: &tokens, at: start.map_or(tokens.len(), |at| at + 1) };
    parser.value(0)
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Text(String),
    Word(String),
    Symbol(char),
    Arrow,
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = match c {
            '/' if rest.starts_with("//") => after(rest, "\n"),
            '/' if rest.starts_with("/*") => after(rest, "*/"),
            '#' if !rest.starts_with("#[") => after(rest, "\n"),
            '\'' | '"' => string(rest, c, &mut tokens),
            '=' if rest.starts_with("=>") => {
                tokens.push(Token::Arrow);
                rest.get(2..).unwrap_or_default()
            }
            c if is_word(c) => {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (word, tail) = rest.split_at(end);
                tokens.push(Token::Word(word.to_owned()));
                tail
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token::Symbol(c));
                }
                rest.get(c.len_utf8()..).unwrap_or_default()
            }
        };
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '\\' | '$')
}

fn after<'t>(text: &'t str, end: &str) -> &'t str {
    text.split_once(end).map_or("", |(_, rest)| rest)
}

fn string<'t>(text: &'t str, quote: char, tokens: &mut Vec<Token>) -> &'t str {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            tokens.push(Token::Text(value));
            return text.get(at + 1..).unwrap_or_default();
        }
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    ""
}

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn symbol(&self, ahead: usize) -> Option<char> {
        match self.tokens.get(self.at + ahead) {
            Some(Token::Symbol(c)) => Some(*c),
            _ => None,
        }
    }

    fn eat(&mut self, symbol: char) -> bool {
        let there = self.symbol(0) == Some(symbol);
        self.at += usize::from(there);
        there
    }

    /// One value; anything behind it that is no separator makes it [`Value::Other`].
    fn value(&mut self, depth: u8) -> Value {
        self.skip_cast();
        let value = if depth > 16 { Value::Other } else { self.primary(depth) };
        match self.peek() {
            None | Some(Token::Arrow | Token::Symbol(',' | ']' | ')' | ';')) => value,
            Some(_) => {
                self.skip_expression();
                Value::Other
            }
        }
    }

    fn skip_cast(&mut self) {
        let word = matches!(self.tokens.get(self.at + 1), Some(Token::Word(_)));
        if word && self.symbol(0) == Some('(') && self.symbol(2) == Some(')') {
            self.at += 3;
        }
    }

    fn primary(&mut self, depth: u8) -> Value {
        let token = self.peek().cloned();
        match token {
            Some(Token::Text(text)) => {
                self.at += 1;
                Value::Text(text)
            }
            Some(Token::Symbol('[')) => {
                self.at += 1;
                self.entries(']', depth)
            }
            Some(Token::Word(word)) => {
                self.at += 1;
                self.word(&word, depth)
            }
            _ => Value::Other,
        }
    }

    fn word(&mut self, word: &str, depth: u8) -> Value {
        if self.symbol(0) == Some('(') {
            self.at += 1;
            let arguments = self.entries(')', depth);
            return call(word.trim_start_matches('\\'), arguments);
        }
        match word.to_ascii_lowercase().as_str() {
            "null" => Value::Null,
            "true" | "false" => Value::Text(word.to_ascii_lowercase()),
            number if number.bytes().all(|b| b.is_ascii_digit()) => Value::Text(number.to_owned()),
            _ => Value::Other,
        }
    }

    fn entries(&mut self, end: char, depth: u8) -> Value {
        let mut entries = Vec::new();
        while self.peek().is_some() && !self.eat(end) {
            let before = self.at;
            let first = self.value(depth + 1);
            if self.peek() == Some(&Token::Arrow) {
                self.at += 1;
                let key = if let Value::Text(key) = first { key } else { String::new() };
                let value = self.value(depth + 1);
                entries.push((key, value));
            } else {
                entries.push((String::new(), first));
            }
            // What is neither separator nor end is stepped over, so that every turn moves on.
            if !self.eat(',') && self.symbol(0) != Some(end) && self.at == before {
                self.at += 1;
            }
        }
        Value::Array(entries)
    }

    /// To the separator that ends this value, over nested brackets.
    fn skip_expression(&mut self) {
        let mut open = 0_u32;
        while let Some(token) = self.peek() {
            match token {
                Token::Symbol('(' | '[' | '{') => open += 1,
                Token::Symbol(')' | ']' | '}' | ',' | ';') | Token::Arrow if open == 0 => return,
                Token::Symbol(')' | ']' | '}') => open -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }
}

fn call(name: &str, arguments: Value) -> Value {
    let Value::Array(arguments) = arguments else {
        return Value::Other;
    };
    if name == "array" {
        return Value::Array(arguments);
    }
    let mut arguments = arguments.into_iter().map(|(_, value)| value);
    let first = arguments.next();
    let folder = match name {
        "env" => {
            let default = Box::new(arguments.next().unwrap_or(Value::Null));
            return if let Some(Value::Text(name)) = first { Value::Env(name, default) } else { Value::Other };
        }
        "database_path" => "database/",
        "storage_path" => "storage/",
        "base_path" => "",
        _ => return Value::Other,
    };
    match first {
        Some(Value::Text(path)) => Value::Path(format!("{folder}{}", path.trim_start_matches('/'))),
        _ => Value::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_laravel_configuration_is_read() {
        let value = parse(
            r#"<?php
            use Illuminate\Support\Str;
            // 'connections' => ['no' => []]
            return [
                'default' => env('DB_CONNECTION', 'mysql'),   # comment
                'connections' => [
                    'mysql' => [
                        'driver' => 'mysql', 'host' => env('DB_HOST', '127.0.0.1'), 'port' => (int) env("P", 3306),
                        'options' => extension_loaded('pdo_mysql') ? array_filter([
                            PDO::MYSQL_ATTR_SSL_CA => env('MYSQL_ATTR_SSL_CA'),
                        ]) : [],
                        'prefix' => Str::slug(env('APP_NAME'), '_').'_x', 'strict' => true, 'engine' => null,
                        'database' => env('A', env('B', database_path('x.sqlite'))),
                    ],
                ],
            ];"#,
        );
        let mysql = value.get("connections").and_then(|c| c.get("mysql")).expect("there");
        let env = |name: &str, default: Value| Some(Value::Env(name.to_owned(), Box::new(default)));
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(value.get("default").cloned(), env("DB_CONNECTION", text("mysql")));
        assert_eq!(mysql.get("host").cloned(), env("DB_HOST", text("127.0.0.1")));
        assert_eq!(mysql.get("port").cloned(), env("P", text("3306")));
        assert_eq!(mysql.get("options"), Some(&Value::Other));
        assert_eq!(mysql.get("prefix"), Some(&Value::Other));
        assert_eq!(mysql.get("engine"), Some(&Value::Null));
        let inner = Value::Env("B".to_owned(), Box::new(Value::Path("database/x.sqlite".to_owned())));
        assert_eq!(mysql.get("database").cloned(), env("A", inner));
    }

    #[test]
    fn damaged_and_hostile_texts_end() {
        let deep = format!("return {}", "[".repeat(100_000));
        let odd = ["", "return", "return [", "return ['a' =>", "return [) ] } ,,,=>=>", "return 'x", "return [\\", &deep];
        for text in odd {
            let _ = parse(text);
        }
        let real = "return ['a' => [1, 2], 'b' => 'c'];";
        for end in 0..real.len() {
            let _ = parse(&real[..end]);
        }
    }
}
