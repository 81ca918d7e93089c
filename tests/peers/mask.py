"""Peers of the card-data detector, on the corpus that ours is measured with.

    python3 tests/peers/mask.py --corpus DIR [--quick]

DIR is what `cargo xtask corpus` writes, with clean.log and dense.log. Prints the lines of a bench
program: figures, one JSON object each. The peers are installed once, from PyPI, into target/peers.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PLACE = HERE.parent.parent / "target" / "peers"
CHUNK = 64 * 1024
# Seconds one measurement of speed may take, about.
SECONDS = 4.0


def installed():
    """The Python that has the peers; makes it when it is missing."""
    python = PLACE / "venv" / "bin" / "python"
    wanted = (HERE / "requirements.txt").read_text()
    stamp = PLACE / "installed.txt"
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        print("peers: installing from PyPI into target/peers", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", PLACE / "venv"], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return str(python)


def peers():
    """Name and search function of each peer: text in, list of (start, end) in characters out."""
    import scrubadub.detectors
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import CreditCardRecognizer

    class Blank(SpacyNlpEngine):
        """A tokenizer and nothing else: the least the engine works with."""

        def __init__(self):
            super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
            self.nlp = {"en": spacy.blank("en")}
            # Our pieces of text are longer than what spaCy expects of a sentence.
            self.nlp["en"].max_length = 1 << 30

        def load(self):
            pass

    recognizer = CreditCardRecognizer()
    engine = AnalyzerEngine(
        registry=RecognizerRegistry(
            recognizers=[CreditCardRecognizer()], supported_languages=["en"]
        ),
        nlp_engine=Blank(),
        supported_languages=["en"],
    )
    scrub = scrubadub.detectors.CreditCardDetector()
    pattern = re.compile(r"(?:\d[ -]?){12,18}\d", re.ASCII)

    def spans(found):
        return [(one.start, one.end) for one in found]

    return [
        (
            "Presidio recognizer",
            lambda text: spans(recognizer.analyze(text, ["CREDIT_CARD"], None)),
        ),
        (
            "Presidio engine",
            lambda text: spans(engine.analyze(text, language="en", entities=["CREDIT_CARD"])),
        ),
        (
            "scrubadub",
            lambda text: [(one.beg, one.end) for one in scrub.iter_filth(text)],
        ),
        (
            "Python re + Luhn",
            lambda text: [
                match.span() for match in pattern.finditer(text) if luhn(match.group())
            ],
        ),
    ]


def luhn(text):
    total = 0
    for place, digit in enumerate(int(c) for c in reversed(text) if c.isdigit()):
        doubled = digit * 2
        total += digit if place % 2 == 0 else doubled // 10 + doubled % 10
    return total % 10 == 0


def lines(path):
    """Text, labels in characters, and class of each line of a corpus file."""
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        raw = entry["text"].encode() if "text" in entry else bytes.fromhex(entry["hex"])
        labels = []
        for label in entry["labels"]:
            # The same bytes decode to the same text, so lengths of parts are offsets.
            start = len(raw[: label["start"]].decode(errors="replace"))
            end = len(raw[: label["end"]].decode(errors="replace"))
            labels.append((label["spelling"], start, end))
        yield raw.decode(errors="replace"), labels


def accuracy(name, search, corpus, plain, optional):
    hits = {"all": [0, 0], "plain": [0, 0]}
    for text, labels in lines(corpus / "cards.ndjson"):
        found = search(text)
        for spelling, start, end in labels:
            hit = any(a < end and start < b for a, b in found)
            if spelling not in optional:
                hits["all"][0] += hit
                hits["all"][1] += 1
            if spelling in plain:
                hits["plain"][0] += hit
                hits["plain"][1] += 1
    wrong, clean = 0, 0
    for text, _ in lines(corpus / "look-alikes.ndjson"):
        wrong += bool(search(text))
        clean += 1
    right, of = hits["all"]
    figure(f"{name}: recall, all spellings", "%", 100 * right / of)
    right_plain, of_plain = hits["plain"]
    figure(f"{name}: recall, plain, blanks, dashes", "%", 100 * right_plain / of_plain)
    figure(f"{name}: look-alikes taken for cards", "%", 100 * wrong / clean)
    figure(f"{name}: precision", "%", 100 * right / max(right + wrong, 1))
    research = corpus / "research.ndjson"
    if research.exists():
        right, of = 0, 0
        for text, labels in lines(research):
            found = search(text)
            for _, start, end in labels:
                right += any(a < end and start < b for a, b in found)
                of += 1
        figure(f"{name}: recall, presidio-research", "%", 100 * right / of)


def speed(name, what, search, pieces):
    """GB a second of processor time, over as many pieces as fit into the time."""
    done, began = 0, time.process_time()
    for text, size in pieces:
        search(text)
        done += size
        took = time.process_time() - began
        if took > SECONDS:
            break
    figure(f"{name}: {what}", "GB/s", done / took / 1e9)


def chunks(raw):
    cut = [raw[at : at + CHUNK] for at in range(0, min(len(raw), 16 << 20), CHUNK)]
    return [(piece.decode(errors="replace"), len(piece)) for piece in cut]


def records(raw):
    cut = raw[: 16 << 20].split(b"\n")
    return [(piece.decode(errors="replace"), len(piece) + 1) for piece in cut]


def figure(name, unit, value):
    line = {"figure": name, "unit": unit, "samples": [value]}
    print(json.dumps(line, ensure_ascii=False), flush=True)


def research(source, out):
    """Writes the CREDIT_CARD spans of presidio-research's synthetic set as a corpus file."""
    with open(out, "w") as file:
        for entry in json.loads(pathlib.Path(source).read_text()):
            text, labels = entry["full_text"], []
            for span in entry["spans"]:
                if span["entity_type"] == "CREDIT_CARD":
                    start, end = (
                        len(text[: span[key]].encode())
                        for key in ("start_position", "end_position")
                    )
                    labels.append({"start": start, "end": end, "kind": "pan", "brand": ""})
                    labels[-1] |= {"spelling": "research", "secret": span["entity_value"]}
            file.write(json.dumps({"class": "research", "text": text, "labels": labels}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=pathlib.Path, required=True)
    parser.add_argument("--plain", default="plain,space,dash", help="spellings counted apart")
    parser.add_argument("--optional", default="", help="spellings not counted, with ; between")
    parser.add_argument("--research", help="synth_dataset_v2.json of presidio-research")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.research:
        research(options.research, options.corpus / "research.ndjson")
        return
    if not sys.prefix.startswith(str(PLACE)):
        python = installed()
        os.execv(python, [python, *sys.argv])
    global SECONDS
    SECONDS = 0.3 if options.quick else SECONDS
    clean = (options.corpus / "clean.log").read_bytes()
    dense = (options.corpus / "dense.log").read_bytes()
    for name, search in peers():
        print(f"mask: {name}", file=sys.stderr)
        accuracy(
            name, search, options.corpus, options.plain.split(","), options.optional.split(";")
        )
        speed(name, "clean log, pieces of 64 KiB", search, chunks(clean))
        speed(name, "clean log, record by record", search, records(clean))
        speed(name, "dense digits, pieces of 64 KiB", search, chunks(dense))


main()
