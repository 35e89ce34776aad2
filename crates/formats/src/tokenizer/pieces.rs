//! What a piece of the vocabulary stands for in a text, byte for byte.

use std::fmt::Write;

use serde_json::Value;

/// SentencePiece's stand-in for a space.
pub(super) const SPACE_MARK: char = '▁';

/// How pieces are written in the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// Each character stands for one byte (GPT-2's table).
    ByteLevel,
    /// Spaces written as `▁`, single bytes as `<0x0A>`.
    SentencePiece,
    /// As in the text.
    Plain,
}

impl PieceKind {
    /// Found by the decoder that `inner` uses.
    pub(super) fn of(inner: &tokenizers::Tokenizer) -> Self {
        let decoder = inner.get_decoder().and_then(|decoder| serde_json::to_value(decoder).ok());
        let mut kinds = Vec::new();
        collect_kinds(&decoder.unwrap_or(Value::Null), &mut kinds);
        if kinds.contains(&Self::ByteLevel) {
            Self::ByteLevel
        } else if kinds.contains(&Self::SentencePiece) {
            Self::SentencePiece
        } else {
            Self::Plain
        }
    }

    /// The bytes of `piece`.
    pub(super) fn bytes(self, piece: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => {
                let bytes: Option<Vec<u8>> = piece.chars().map(byte_of_char).collect();
                bytes.unwrap_or_else(|| piece.as_bytes().to_vec())
            }
            Self::SentencePiece => match byte_piece(piece) {
                Some(byte) => vec![byte],
                None => piece.replace(SPACE_MARK, " ").into_bytes(),
            },
            Self::Plain => piece.as_bytes().to_vec(),
        }
    }
}

/// The byte that a SentencePiece byte piece such as `<0x0A>` stands for.
pub(super) fn byte_piece(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_byte = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_byte { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Text with bytes that are no part of a whole character written as `<0xE2>`.
pub(super) fn readable(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "<0x{byte:02X}>");
        }
    }
    out
}

/// GPT-2's table: printable Latin-1 characters stand for themselves, the other bytes, in order, for the
/// characters from U+0100 on.
fn byte_of_char(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        33..=126 | 161..=172 | 174..=255 => code,
        256..=288 => code - 256,
        289..=322 => code - 289 + 127,
        323 => 173,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

fn collect_kinds(decoder: &Value, kinds: &mut Vec<PieceKind>) {
    match decoder.get("type").and_then(Value::as_str) {
        Some("Sequence") => {
            for part in decoder.get("decoders").and_then(Value::as_array).into_iter().flatten() {
                collect_kinds(part, kinds);
            }
        }
        Some("ByteLevel") => kinds.push(PieceKind::ByteLevel),
        Some("Metaspace" | "ByteFallback") => kinds.push(PieceKind::SentencePiece),
        Some("Replace") if decoder.pointer("/pattern/String").is_some_and(|text| text == "▁") => {
            kinds.push(PieceKind::SentencePiece);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_character() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<u8> = alphabet.into_iter().map(|c| byte_of_char(c).unwrap()).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(PieceKind::ByteLevel.bytes("ĠcafÃ©Ċ"), " café\n".as_bytes());
        assert_eq!(PieceKind::ByteLevel.bytes("日"), "日".as_bytes());
    }

    #[test]
    fn sentencepiece_spaces_and_bytes() {
        assert_eq!(PieceKind::SentencePiece.bytes("▁the▁"), b" the ");
        assert_eq!(PieceKind::SentencePiece.bytes("<0x0A>"), b"\n");
        assert_eq!(PieceKind::SentencePiece.bytes("<0x0>"), b"<0x0>");
        assert_eq!(byte_piece("<0x+1>"), None);
        assert_eq!(readable(b"a\xE2\x82b\xC3\xA9"), "a<0xE2><0x82>bé");
    }
}
