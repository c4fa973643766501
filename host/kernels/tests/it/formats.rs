//! Blocks against the values and bytes of the `gguf` Python package (`tests/golden/make.py`).

use espalier_kernels::{WeightFormat, dequantize, quantize};

struct Record {
    name: String,
    blocks: Vec<u8>,
    values: Vec<f32>,
}

fn records() -> Vec<Record> {
    let mut bytes: &[u8] = include_bytes!("../golden/formats.bin");
    let mut records = Vec::new();
    let take = |bytes: &mut &'static [u8], count: usize| {
        let (head, tail) = bytes.split_at(count);
        *bytes = tail;
        head
    };
    while !bytes.is_empty() {
        let length = usize::from(take(&mut bytes, 1)[0]);
        let name = String::from_utf8(take(&mut bytes, length).to_vec()).unwrap();
        let length = |bytes: &mut _| u32::from_le_bytes(take(bytes, 4).try_into().unwrap()) as usize;
        let size = length(&mut bytes);
        let blocks = take(&mut bytes, size).to_vec();
        let count = length(&mut bytes);
        let values = take(&mut bytes, count * 4)
            .as_chunks()
            .0
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect();
        records.push(Record { name, blocks, values });
    }
    records
}

#[test]
fn every_format_gives_the_values_of_gguf() {
    let mut seen = 0;
    for record in records() {
        let Some(format) = WeightFormat::parse(&record.name) else { continue };
        let mut values = vec![0.0; record.values.len()];
        dequantize(format, &record.blocks, &mut values).unwrap();
        assert_eq!(values, record.values, "{format}");
        seen += 1;
    }
    assert_eq!(seen, WeightFormat::ALL.len());
}

#[test]
fn quantisation_gives_the_bytes_of_gguf() {
    let mut seen = 0;
    for record in records() {
        let Some(name) = record.name.strip_suffix(" quantized") else { continue };
        let mut blocks = Vec::new();
        quantize(WeightFormat::parse(name).unwrap(), &record.values, &mut blocks).unwrap();
        assert_eq!(blocks, record.blocks, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 6);
}
