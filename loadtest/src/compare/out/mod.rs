mod csv;
mod head;
mod html;
mod markdown;
mod svg;

use std::fs;
use std::path::Path;

pub use csv::{curves_csv, servers_csv};
pub use head::Head;
pub use html::{curves_html, servers_html};
pub use markdown::{curves_markdown, servers_markdown};
pub use svg::{Bars, Lines, Series};

/// Writes the files of a report into a folder, which is made if it is missing.
///
/// # Errors
/// A folder or file that can't be written, by its name.
pub fn write_all(dir: &Path, files: &[(&str, String)]) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for (name, content) in files {
        let path = dir.join(name);
        fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// A figure with as many digits as it deserves: three, thousands apart.
pub fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        small if small < 10.0 => 2,
        middle if middle < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let Some(whole) = text
        .split('.')
        .next()
        .filter(|whole| whole.len() > 4 && decimals == 0)
    else {
        return text;
    };
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::digits;

    #[test]
    fn figures_for_people() {
        let table = [
            (0.123, "0.12"),
            (12.34, "12.3"),
            (1234.0, "1234"),
            (12345.6, "12,346"),
            (1234567.0, "1,234,567"),
        ];
        for (value, text) in table {
            assert_eq!(digits(value), text);
        }
    }
}
