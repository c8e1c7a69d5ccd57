"""What people might say of an ability scene, in English and in Chinese, in several phrasings."""

from __future__ import annotations

import numpy as np

from patchdit.training.ability_clip import AbilityClip
from patchdit.training.captions import ing_form, third_person
from patchdit.training.world_words import CHINESE, ENGLISH

# {thing}, {other}: "red ball"; {place}: "in a meadow"; {next}: where the second shot plays; {side}:
# left or right.
_ENGLISH = {
    "pillar": (
        "{a_thing} {moves} behind a pillar and comes out on the other side, {place}",
        "{place}, {a_thing} passes behind a stone pillar and reappears unchanged",
        "{a_thing} {moves}, disappears behind a column and comes out again, {place}, static camera",
    ),
    "return": (
        "{a_thing} rests {place}, the camera pans {side} until it is out of view and comes back",
        "the camera looks away to the {side} and returns: {a_thing} is still there, {place}",
        "{place}, {a_thing} leaves the frame as the camera pans {side}, then the camera pans back",
    ),
    "stroke": (
        "a brush paints {a_colour} stroke, {place}",
        "{place}, a paintbrush draws {a_colour} line that stays",
        "a paintbrush with {colour} paint draws a wavy line, {place}, static camera",
    ),
    "bite": (
        "a bite is taken out of {a_thing} and stays, {place}",
        "{place}, {a_thing} gets bitten, the bite mark stays",
        "someone bites {a_thing} on its {side} side, {place}, and it stays bitten",
    ),
    "collision": (
        "{a_thing} and {an_other} roll towards each other, collide and rebound, {place}",
        "two balls collide, {a_colour} one and {another_colour} one, and bounce back, {place}",
        "{place}, {a_thing} hits {an_other} and both roll back",
    ),
    "orbit": (
        "the camera orbits {things} on a checkered floor, {place}",
        "{things} on a checkered floor, {place}, the camera circles around to the {side}",
        "{place}, orbiting shot to the {side} of {things} standing on a checkerboard floor",
    ),
    "cut": (
        "{a_thing} {place}, cut to the same {thing} {next}",
        "two shots: {a_thing} {place}, then the same {thing} {next}",
        "first {a_thing} is {moving} {place}, then the scene cuts and it is {next_moving} {next}",
    ),
}
_CHINESE = {
    "pillar": (
        "{place}，一个{thing}{moves}，从柱子后面经过又出来",
        "一个{thing}躲到石柱后面，再从另一边出来，{place}",
    ),
    "return": (
        "{place}有一个{thing}，镜头向{side}移开，再移回来，它还在那里",
        "镜头向{side}平移看不见{thing}，然后回到{thing}，{place}",
    ),
    "stroke": (
        "{place}，一支画笔画出一道{colour}的线",
        "画笔画了一条{colour}的曲线，线留了下来，{place}",
    ),
    "bite": (
        "{place}，一个{thing}被咬了一口，缺口一直在",
        "一个{thing}的{side}边被咬掉一口，{place}",
    ),
    "collision": (
        "{place}，一个{thing}和一个{other}相撞后弹开",
        "{thing}和{other}向对方滚去，碰撞，然后弹回，{place}",
    ),
    "orbit": (
        "{place}，镜头绕着棋盘格地板上的{things}旋转",
        "棋盘格地板上有{things}，镜头向{side}环绕，{place}",
    ),
    "cut": (
        "两个镜头：{place}的{thing}，然后是{next}的同一个{thing}",
        "{place}有一个{thing}，切换镜头，同一个{thing}在{next}",
    ),
}
_SIDES = {"left": "左", "right": "右"}


def describe(clip: AbilityClip, rng: np.random.Generator, language: str | None = None) -> str:
    """One caption of an ability scene in `language` "en" or "zh"; without it, three in ten zh."""
    language = language or ("zh" if rng.uniform() < 0.3 else "en")
    if language == "en":
        text = str(rng.choice(_ENGLISH[clip.ability])).format(**_english(clip, rng))
        return text[0].upper() + text[1:] if rng.uniform() < 0.4 else text
    return str(rng.choice(_CHINESE[clip.ability])).format(**_chinese(clip, rng))


def _side(clip: AbilityClip) -> str:
    if clip.ability == "bite":
        return "right" if clip.facts["side"] > 0 else "left"
    return "left" if "left" in clip.scene.camera.kind else "right"


def _word(rng, language: dict, attribute: str, value: str) -> str:
    """A phrase for a value, the common one half of the time."""
    phrases = language[attribute][value]
    return phrases[0] if rng.uniform() < 0.5 else str(rng.choice(phrases))


def _things(rng, clip: AbilityClip, language: dict, joint: str) -> list[str]:
    """Colour and shape of every subject; a brush is known by its colour alone."""
    subjects = [s for s in clip.scene.subjects if s.kind in language["subject"]]
    return [
        _word(rng, language, "colour", s.colour) + joint + _word(rng, language, "subject", s.kind)
        for s in subjects
    ]


def _article(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def _english(clip: AbilityClip, rng) -> dict[str, str]:
    subjects = clip.scene.subjects
    things = _things(rng, clip, ENGLISH, " ") or [""]
    every = [_article(t) for t in things] if things[0] else [""]
    motions = ENGLISH["motion"]
    moving = motions.get(subjects[0].motion, [""])[0]
    second = clip.facts.get("second")
    return {
        "thing": things[0],
        "a_thing": every[0],
        "an_other": every[-1],
        "things": " and ".join(", ".join(every).rsplit(", ", 1)),
        "colour": subjects[0].colour,
        "a_colour": _article(subjects[0].colour),
        "another_colour": _article(subjects[-1].colour),
        "moves": third_person(moving) if moving else "",
        "moving": ing_form(moving) if moving else "",
        "place": _word(rng, ENGLISH, "environment", clip.scene.environment),
        "next": _word(rng, ENGLISH, "environment", second.environment) if second else "",
        "next_moving": ing_form(motions[second.subjects[0].motion][0]) if second else "",
        "side": _side(clip),
    }


def _chinese(clip: AbilityClip, rng) -> dict[str, str]:
    subjects = clip.scene.subjects
    things = _things(rng, clip, CHINESE, "的") or [""]
    second = clip.facts.get("second")
    return {
        "thing": things[0],
        "other": things[-1],
        "things": "和".join(f"一个{thing}" for thing in things),
        "colour": CHINESE["colour"][subjects[0].colour][0],
        "moves": CHINESE["motion"].get(subjects[0].motion, [""])[0],
        "place": _word(rng, CHINESE, "environment", clip.scene.environment),
        "next": _word(rng, CHINESE, "environment", second.environment) if second else "",
        "side": _SIDES[_side(clip)],
    }
