use timburn_core::WeightsError;
use timburn_models::StateDict;

/// EfficientNet-B0's repeats, which Lite scales in depth but for the first and last stage.
const REPEATS: [usize; 7] = [1, 2, 2, 3, 3, 4, 1];
/// Blocks per stage of lite0, lite1 and lite2, lite3, lite4.
const LITE: [[usize; 7]; 4] = [REPEATS, [1, 3, 3, 4, 4, 5, 1], [1, 3, 3, 5, 5, 6, 1], [1, 4, 4, 6, 6, 8, 1]];
/// Blocks per stage of MobileNetV2.
const MOBILENET_V2: [usize; 7] = [1, 2, 3, 4, 3, 3, 1];

/// timm's keys for EfficientNet-PyTorch's: blocks counted through become stage and position.
pub(super) fn efficientnet_lite(dict: StateDict) -> Result<StateDict, WeightsError> {
    let index = |key: &str| key.strip_prefix("_blocks.")?.split('.').next()?.parse::<usize>().ok();
    let blocks = dict.tensors.keys().filter_map(|key| index(key)).max().map_or(0, |last| last.saturating_add(1));
    let Some(repeats) = LITE.iter().find(|repeats| repeats.iter().sum::<usize>() == blocks) else {
        let reason = format!("{blocks} blocks: EfficientNet-Lite has 16, 21, 24 or 30");
        return Err(WeightsError::Corrupt { name: dict.name, reason });
    };
    let places = places(repeats);
    dict.rename(|key| Some(lite_key(key, &places).unwrap_or_else(|| key.to_owned())))
}

fn lite_key(key: &str, places: &[(usize, usize)]) -> Option<String> {
    let Some(rest) = key.strip_prefix("_blocks.") else {
        let (module, rest) = key.split_once('.')?;
        let module = match module {
            "_conv_stem" => "conv_stem",
            "_bn0" => "bn1",
            "_conv_head" => "conv_head",
            "_bn1" => "bn2",
            "_fc" => "classifier",
            _ => return None,
        };
        return Some(format!("{module}.{rest}"));
    };
    let (block, rest) = rest.split_once('.')?;
    let (module, rest) = rest.split_once('.')?;
    let &(stage, position) = places.get(block.parse::<usize>().ok()?)?;
    // The first stage does not expand: its norms are counted from the depthwise convolution on, and its projection is `conv_pw`.
    let module = match (stage, module) {
        (0, "_depthwise_conv") => "conv_dw",
        (0, "_bn1") => "bn1",
        (0, "_project_conv") => "conv_pw",
        (0, "_bn2") => "bn2",
        (_, "_expand_conv") => "conv_pw",
        (_, "_bn0") => "bn1",
        (_, "_depthwise_conv") => "conv_dw",
        (_, "_bn1") => "bn2",
        (_, "_project_conv") => "conv_pwl",
        (_, "_bn2") => "bn3",
        _ => return None,
    };
    Some(format!("blocks.{stage}.{position}.{module}.{rest}"))
}

/// torchvision's keys for timm's `mobilenetv2_100`: stage and position become the index in `features`, modules their index in `conv`.
pub(super) fn timm_mobilenet_v2(dict: StateDict) -> Result<StateDict, WeightsError> {
    let places = places(&MOBILENET_V2);
    dict.rename(|key| Some(mobilenet_key(key, &places).unwrap_or_else(|| key.to_owned())))
}

fn mobilenet_key(key: &str, places: &[(usize, usize)]) -> Option<String> {
    let Some(rest) = key.strip_prefix("blocks.") else {
        let (module, rest) = key.split_once('.')?;
        let module = match module {
            "conv_stem" => "features.0.0",
            "bn1" => "features.0.1",
            "conv_head" => "features.18.0",
            "bn2" => "features.18.1",
            "classifier" => "classifier.1",
            _ => return None,
        };
        return Some(format!("{module}.{rest}"));
    };
    let mut parts = rest.splitn(4, '.');
    let place = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let feature = places.iter().position(|&known| known == place)? + 1;
    let module = match (place.0, parts.next()?) {
        (0, "conv_dw") => "0.0",
        (0, "bn1") => "0.1",
        (0, "conv_pw") => "1",
        (0, "bn2") => "2",
        (_, "conv_pw") => "0.0",
        (_, "bn1") => "0.1",
        (_, "conv_dw") => "1.0",
        (_, "bn2") => "1.1",
        (_, "conv_pwl") => "2",
        (_, "bn3") => "3",
        _ => return None,
    };
    Some(format!("features.{feature}.conv.{module}.{}", parts.next()?))
}

/// Stage and position in it of every block, in order.
fn places(repeats: &[usize]) -> Vec<(usize, usize)> {
    repeats.iter().enumerate().flat_map(|(stage, &count)| (0..count).map(move |position| (stage, position))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_lite0() {
        let key = |key| lite_key(key, &places(&LITE[0])).unwrap();
        assert_eq!(key("_bn1.running_var"), "bn2.running_var");
        assert_eq!(key("_blocks.0._project_conv.weight"), "blocks.0.0.conv_pw.weight");
        assert_eq!(key("_blocks.2._bn2.bias"), "blocks.1.1.bn3.bias");
        assert_eq!(key("_blocks.15._expand_conv.weight"), "blocks.6.0.conv_pw.weight");
    }

    #[test]
    fn keys_of_mobilenet_v2() {
        let key = |key| mobilenet_key(key, &places(&MOBILENET_V2)).unwrap();
        assert_eq!(key("blocks.0.0.conv_pw.weight"), "features.1.conv.1.weight");
        assert_eq!(key("blocks.1.0.bn2.running_mean"), "features.2.conv.1.1.running_mean");
        assert_eq!(key("blocks.6.0.conv_pwl.weight"), "features.17.conv.2.weight");
        assert_eq!(key("classifier.bias"), "classifier.1.bias");
    }
}
