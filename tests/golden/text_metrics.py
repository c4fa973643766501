"""What sacrebleu and rouge-score say of 500 pairs of an answer and its references, in English and in Chinese.

Writes `data/text-metrics/{en,zh}.jsonl`, the pairs as `espalier evaluate --data` reads them, and `{en,zh}.json` with the
scores of each pair and of all pairs together. English sentences are cut from `data/sotu-test.txt`, Chinese ones are put
together from the words below; the answers are the references after a few random edits, so that every metric has partial
matches, and both are sprinkled with what tokenizers treat specially.

    pip install sacrebleu==2.6.0 rouge-score==0.1.2
    python3 tests/golden/text_metrics.py

Run again, it writes the same files.
"""

import json
import pathlib
import random
import re

from rouge_score import rouge_scorer, tokenizers
from sacrebleu.metrics import BLEU, CHRF

DATA = pathlib.Path(__file__).parent / "data"
PAIRS = 500
ROUGE_TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]

ODDITIES = [
    "1,234.56", "3.14", "10-20", "-5", "$1,000,000", "50%", "2.", ".5", "1.2.3", "U.S.", "e.g.", "don't", "it's",
    "state-of-the-art", "&quot;quoted&quot;", "&amp;", "&lt;b&gt;", "&amp;amp;", "<skipped>", "re-\nentry", "(see below)",
    "[1]", "{x}", "a/b", "a\\b", "x^2", "C++", "#7", "user@example.org", "...", "?!", "--", "'single'", "\"double\"",
    "“curly”", "–", "—", "…", "naïve", "Ärger", "ΑΒΓ", "жизнь", "中文", "ｆｕｌｌ", "１２３", "☃", "✓", "😀", "한국어", "カナ",
    "\u00a0", "\u3000", "\t", "\u2028", "\x1c", "İstanbul", "ﬁre", "e\u0301", "\U00020000", "⺀", "。", "，",
]
CHINESE = (
    "我们 国家 经济 发展 问题 研究 工作 人民 世界 历史 时间 今天 明天 城市 农村 学校 老师 学生 政府 法律 科学 技术 模型 语言 数据 "
    "系统 方法 结果 重要 不同 新的 很多 已经 可以 需要 认为 表示 进行 提高 减少 增加 支持 反对 因为 所以 但是 如果 虽然 而且 在 的 了 "
    "和 与 是 有 不 也 都 就 从 到 对 把 被 让 给 向 为 中国 北京 上海 大学 公司 市场 产品 价格 质量 服务 环境 健康 医院 医生 孩子 "
    "父母 朋友 音乐 电影 书 水 山 火车 飞机 春天 夏天 秋天 冬天"
).split()
CHINESE_ODDITIES = [
    "2024年", "３．５％", "1,234.5", "《红楼梦》", "“引用”", "‘单’", "——", "……", "、", "；", "：", "！", "？", "（注）", "GDP", "AI模型",
    "Wi-Fi", "COVID-19", "ＡＢＣ", "㈱", "①", "⼀", "𠀀", "ㄅㄆㄇ", "々", "豈", "한글", "かな", "abc", "&quot;", "3-5", "％",
    " ", "\u3000", "\n",
]


def english_sentences():
    text = (DATA / "sotu-test.txt").read_text(encoding="utf-8")
    words = text.split()
    draw = random.Random(1)
    while True:
        start = draw.randrange(len(words) - 40)
        yield " ".join(words[start : start + draw.randint(1, 24)])


def chinese_sentences():
    draw = random.Random(2)
    while True:
        clauses = [
            "".join(draw.choices(CHINESE, k=draw.randint(2, 8))) for _ in range(draw.randint(1, 3))
        ]
        yield "，".join(clauses) + draw.choice(["。", "！", "？", ""])


def pieces(text, language):
    return re.findall(r"\S+\s*", text) if language == "en" else list(text)


def sprinkled(text, language, draw):
    """With some of what tokenizers treat specially, and sometimes of several lines."""
    parts = pieces(text, language)
    oddities = ODDITIES if language == "en" else CHINESE_ODDITIES
    space = " " if language == "en" else ""
    for _ in range(draw.choice([0, 0, 1, 2, 4])):
        parts.insert(draw.randint(0, len(parts)), draw.choice(oddities) + draw.choice([space, ""]))
    if draw.random() < 0.15:
        for _ in range(draw.randint(1, 3)):
            parts.insert(draw.randint(0, len(parts)), "\n")
    if draw.random() < 0.05:
        parts = ["  "] + parts + [" \n"]
    return "".join(parts)


def edited(text, other, language, draw):
    """The text as a model may have got it wrong."""
    parts = pieces(text, language)
    for _ in range(draw.choice([0, 1, 1, 2, 3, 5, 8])):
        if not parts:
            break
        at = draw.randrange(len(parts))
        edit = draw.randrange(7)
        if edit == 0:
            del parts[at]
        elif edit == 1:
            parts.insert(at, parts[at])
        elif edit == 2:
            parts[at : at + 2] = parts[at : at + 2][::-1]
        elif edit == 3:
            parts[at] = draw.choice(pieces(other, language))
        elif edit == 4:
            parts[at:] = parts[at : at + 6] * draw.randint(1, 3)
        elif edit == 5:
            parts[at] = parts[at].swapcase()
        else:
            parts = parts[: at + 1]
    return sprinkled("".join(parts), language, draw)


def make_pairs(language):
    draw = random.Random(3)
    sentences = english_sentences() if language == "en" else chinese_sentences()
    for index in range(PAIRS):
        text, other = next(sentences), next(sentences)
        reference = sprinkled(text, language, draw)
        candidate = edited(text, other, language, draw)
        if index % 50 == 7:
            candidate = ""
        elif index % 50 == 9:
            candidate = other
        elif index % 50 == 11:
            candidate = reference
        elif index % 50 == 13:
            candidate = draw.choice([" ", ".", "a", "。", "\n"])
        elif index % 100 == 15:
            reference = ""
        references = [reference]
        if index % 5 == 0:
            for _ in range(draw.randint(1, 2)):
                references.append(edited(text, other, language, draw))
        yield candidate, references


class Characters(tokenizers.Tokenizer):
    """Each character that is no white space, in lower case."""

    def tokenize(self, text):
        return list("".join(text.lower().split()))


def rouge_scorers(language):
    if language == "zh":
        return {"": rouge_scorer.RougeScorer(ROUGE_TYPES, tokenizer=Characters())}
    return {
        "": rouge_scorer.RougeScorer(ROUGE_TYPES),
        " stemmed": rouge_scorer.RougeScorer(ROUGE_TYPES, use_stemmer=True),
    }


def scores(pairs, language):
    tokenizer = "zh" if language == "zh" else "13a"
    sentence_bleu, bleu = BLEU(tokenize=tokenizer, effective_order=True), BLEU(tokenize=tokenizer)
    chrf = {"chrF": CHRF(), "chrF++": CHRF(word_order=2)}
    each = {"BLEU": [sentence_bleu.sentence_score(*pair).score for pair in pairs]}
    for name, metric in chrf.items():
        each[name] = [metric.sentence_score(*pair).score for pair in pairs]
    for suffix, scorer in rouge_scorers(language).items():
        found = [scorer.score_multi(references, candidate) for candidate, references in pairs]
        for kind in ROUGE_TYPES:
            each[kind + suffix] = [score[kind].fmeasure for score in found]

    most = max(len(references) for _, references in pairs)
    columns = [[(references + [None] * most)[column] for _, references in pairs] for column in range(most)]
    candidates = [candidate for candidate, _ in pairs]
    together, signatures = {}, {}
    for name, metric in {"BLEU": bleu, **chrf}.items():
        together[name] = metric.corpus_score(candidates, columns).score
        signatures[name] = str(metric.get_signature())
    return {
        "corpus": together,
        "signatures": signatures,
        "pairs": {name: [float(f"{value:.10g}") for value in values] for name, values in each.items()},
    }


def main():
    folder = DATA / "text-metrics"
    folder.mkdir(exist_ok=True)
    for language in ["en", "zh"]:
        pairs = list(make_pairs(language))
        with open(folder / f"{language}.jsonl", "w", encoding="utf-8") as file:
            for candidate, references in pairs:
                reference = references if len(references) > 1 else references[0]
                pair = {"prompt": "", "reference": reference, "candidate": candidate}
                file.write(json.dumps(pair, ensure_ascii=False) + "\n")
        with open(folder / f"{language}.json", "w", encoding="utf-8") as file:
            json.dump(scores(pairs, language), file, separators=(",", ":"))
            file.write("\n")


if __name__ == "__main__":
    main()
