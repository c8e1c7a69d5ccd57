"""What people might say of a scene: English and Chinese captions, from terse to long."""

from __future__ import annotations

import numpy as np

from patchdit.training.blockworld import Scene, Subject
from patchdit.training.world_words import CHINESE, ENGLISH

_IRREGULAR = {"not move": ("does not move", "not moving"), "go": ("goes", "going")}


def _pick(rng, phrases: list[str]) -> str:
    if len(phrases) == 1 or rng.uniform() < 0.5:
        return phrases[0]
    return phrases[rng.integers(1, len(phrases))]


def third_person(phrase: str) -> str:
    """ "move left" -> "moves left"."""
    if phrase in _IRREGULAR:
        return _IRREGULAR[phrase][0]
    verb, _, rest = phrase.partition(" ")
    if verb in _IRREGULAR:
        verb = _IRREGULAR[verb][0]
    elif verb.endswith(("s", "sh", "ch", "x")):
        verb += "es"
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        verb = verb[:-1] + "ies"
    else:
        verb += "s"
    return f"{verb} {rest}".strip()


def ing_form(phrase: str) -> str:
    """ "move left" -> "moving left"."""
    if phrase in _IRREGULAR:
        return _IRREGULAR[phrase][1]
    verb, _, rest = phrase.partition(" ")
    if verb in ("sit", "get", "hop", "put", "go"):
        verb = verb + verb[-1] * (verb != "go") + "ing"
    elif verb.endswith("e"):
        verb = verb[:-1] + "ing"
    else:
        verb += "ing"
    return f"{verb} {rest}".strip()


def _size_word(subject: Subject, language: dict, alone: bool) -> str:
    if not alone or subject.motion in ("growing", "shrinking"):
        return ""
    if subject.radius < 0.172:
        return "small " if language is ENGLISH else "小的"
    if subject.radius > 0.205:
        return "big " if language is ENGLISH else "大的"
    return ""


def _english_subject(rng, subject: Subject, alone: bool, form: str) -> str:
    words = ENGLISH
    noun = _pick(rng, words["subject"][subject.kind])
    colour = _pick(rng, words["colour"][subject.colour])
    size = _size_word(subject, words, alone) if rng.uniform() < 0.25 else ""
    described = f"{size}{colour} {noun}"
    article = "an" if described[0] in "aeiou" else "a"
    motion = _pick(rng, words["motion"][subject.motion])
    joined = {
        "verb": third_person(motion),
        "ing": ing_form(motion),
        "that": "that " + third_person(motion),
        "is": "is " + ing_form(motion),
    }
    return f"{article} {described} {joined[form]}"


def _english(rng, scene: Scene) -> str:
    alone = len(scene.subjects) == 1
    form = str(rng.choice(["verb", "ing", "that", "is"], p=[0.5, 0.25, 0.1, 0.15]))
    subjects = " and ".join(_english_subject(rng, s, alone, form) for s in scene.subjects)
    place = _pick(rng, ENGLISH["environment"][scene.environment])
    camera = _pick(rng, ENGLISH["camera"][scene.camera.kind])
    length = rng.choice(["terse", "plain", "long"], p=[0.1, 0.65, 0.25])
    if length == "terse":
        return subjects if rng.uniform() < 0.5 else f"{subjects} {place}"
    text = f"{subjects} {place}" if rng.uniform() < 0.75 else f"{place}, {subjects}"
    mention = scene.camera.kind != "still" or rng.uniform() < 0.6
    if length == "plain":
        if mention:
            text = f"{text}, {camera}" if rng.uniform() < 0.85 else f"{camera}: {text}"
    else:
        first = scene.subjects[0].kind
        parts = [subjects]
        if alone and rng.uniform() < 0.7:
            parts.append(_pick(rng, ENGLISH["subject details"][first]))
        parts.append(place)
        if rng.uniform() < 0.7:
            parts.append(_pick(rng, ENGLISH["environment details"][scene.environment]))
        if mention:
            parts.append(camera)
        if rng.uniform() < 0.6:
            parts.append(str(rng.choice(ENGLISH["style"])))
        text = ", ".join(parts) if rng.uniform() < 0.6 else ". ".join(_capital(p) for p in parts)
    if rng.uniform() < 0.4:
        text = _capital(text)
    return text + "." if rng.uniform() < 0.3 else text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _chinese_subject(rng, subject: Subject, alone: bool) -> tuple[str, str]:
    """What it is and what it does."""
    colour = _pick(rng, CHINESE["colour"][subject.colour])
    noun = _pick(rng, CHINESE["subject"][subject.kind])
    size = _size_word(subject, CHINESE, alone) if rng.uniform() < 0.25 else ""
    joint = "的" if len(colour) > 1 and rng.uniform() < 0.8 else ""
    count = "一个" if rng.uniform() < 0.8 else ""
    return f"{count}{size}{colour}{joint}{noun}", _pick(rng, CHINESE["motion"][subject.motion])


def _chinese_event(rng, scene: Scene, place: str) -> str:
    """Subjects, what they do and where: place first, between them, or last."""
    alone = len(scene.subjects) == 1
    things, motions = zip(*(_chinese_subject(rng, s, alone) for s in scene.subjects), strict=True)
    joint = str(rng.choice(["，", "和", "，还有"]))
    order = str(rng.choice(["first", "between", "there is", "last"], p=[0.5, 0.2, 0.2, 0.1]))
    if alone and order == "there is":
        return f"{place}有{things[0]}{rng.choice(['在', '，', '，正', '正在'])}{motions[0]}"
    if alone and order == "between":
        return f"{things[0]}{rng.choice(['在', '正在'])}{place}{motions[0]}"
    adverb = "在" if rng.uniform() < 0.15 else ""
    events = joint.join(f"{t}{adverb}{m}" for t, m in zip(things, motions, strict=True))
    if order == "last":
        return f"{events}，{rng.choice(['', '在'])}{place}"
    return f"{place}{rng.choice(['，', ''])}{events}"


def _chinese(rng, scene: Scene) -> str:
    place = _pick(rng, CHINESE["environment"][scene.environment])
    length = rng.choice(["terse", "plain", "long"], p=[0.1, 0.65, 0.25])
    if length == "terse" and rng.uniform() < 0.5:
        alone = len(scene.subjects) == 1
        return "，".join("".join(_chinese_subject(rng, s, alone)) for s in scene.subjects)
    parts = [_chinese_event(rng, scene, place)]
    if length == "long":
        if len(scene.subjects) == 1 and rng.uniform() < 0.7:
            parts.append(_pick(rng, CHINESE["subject details"][scene.subjects[0].kind]))
        if rng.uniform() < 0.7:
            parts.append(_pick(rng, CHINESE["environment details"][scene.environment]))
    if length != "terse" and (scene.camera.kind != "still" or rng.uniform() < 0.6):
        camera = _pick(rng, CHINESE["camera"][scene.camera.kind])
        parts.insert(0 if rng.uniform() < 0.2 else len(parts), camera)
    if length == "long" and rng.uniform() < 0.6:
        parts.append(str(rng.choice(CHINESE["style"])))
    opening = "画面中，" if rng.uniform() < 0.1 else ""
    return opening + "，".join(parts) + ("。" if rng.uniform() < 0.4 else "")


def caption(scene: Scene, rng: np.random.Generator, language: str | None = None) -> str:
    """One caption of a scene in `language` "en" or "zh"; without it, three in ten are Chinese."""
    language = language or ("zh" if rng.uniform() < 0.3 else "en")
    return _english(rng, scene) if language == "en" else _chinese(rng, scene)
