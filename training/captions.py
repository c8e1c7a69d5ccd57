"""What people might say of a scene: English and Chinese captions, from terse to long."""

from __future__ import annotations

import numpy as np

from patchdit.training.blockworld import Scene, Subject

# The first word of each list is the common one and is drawn half of the time.
ENGLISH = {
    "subject": {
        "ball": ["ball", "sphere", "round ball", "orb"],
        "cube": ["cube", "box", "block"],
        "cone": ["cone", "pointed cone", "conical shape"],
        "star": ["star", "five-pointed star", "star shape"],
        "ring": ["ring", "donut", "hoop", "torus"],
    },
    "colour": {
        "red": ["red", "bright red", "crimson", "scarlet"],
        "orange": ["orange", "bright orange", "tangerine"],
        "yellow": ["yellow", "bright yellow", "golden", "lemon yellow"],
        "green": ["green", "bright green", "emerald"],
        "cyan": ["cyan", "turquoise", "aqua"],
        "blue": ["blue", "deep blue", "royal blue"],
        "purple": ["purple", "violet", "lilac"],
        "white": ["white", "pure white", "snow-white"],
    },
    # base form; third person and -ing form are derived
    "motion": {
        "left": [
            "move left",
            "move to the left",
            "slide left",
            "roll to the left",
            "drift leftwards",
            "glide left",
            "travel from right to left",
            "go left",
            "cross from right to left",
        ],
        "right": [
            "move right",
            "move to the right",
            "slide right",
            "roll to the right",
            "drift rightwards",
            "glide right",
            "travel from left to right",
            "go right",
            "cross from left to right",
        ],
        "up": ["rise", "move up", "float up", "go up", "fly upwards", "ascend", "move upwards"],
        "down": [
            "sink",
            "move down",
            "fall slowly",
            "go down",
            "float downwards",
            "descend",
            "move downwards",
        ],
        "still": [
            "stand still",
            "stay in place",
            "rest",
            "sit still",
            "remain motionless",
            "not move",
            "stay put",
        ],
        "bouncing": [
            "bounce",
            "bounce up and down",
            "hop",
            "hop up and down",
            "jump up and down",
            "keep bouncing",
        ],
        "circling": [
            "circle",
            "move in a circle",
            "go round in circles",
            "orbit in a loop",
            "fly in circles",
            "circle around",
        ],
        "growing": ["grow", "get bigger", "become larger", "grow bigger", "expand", "swell"],
        "shrinking": [
            "shrink",
            "get smaller",
            "become smaller",
            "grow smaller",
            "contract",
            "dwindle",
        ],
    },
    "environment": {
        "meadow": [
            "in a meadow",
            "on a green meadow",
            "on the grass",
            "in a grassy field",
            "in the countryside",
            "on a sunny meadow",
            "in a park with green grass",
        ],
        "sunset": [
            "at sunset",
            "in front of a sunset",
            "at dusk",
            "under an orange evening sky",
            "in the desert at sunset",
            "while the sun sets",
        ],
        "night": [
            "at night",
            "under a starry sky",
            "in the moonlight",
            "in the dark of night",
            "on a starry night",
            "under the moon and stars",
        ],
        "snow": [
            "in the snow",
            "on snow",
            "in a snowy landscape",
            "on a snowy field",
            "in winter",
            "in a snow-covered forest",
        ],
        "underwater": [
            "underwater",
            "under water",
            "at the bottom of the sea",
            "on the sea floor",
            "in the ocean",
            "beneath the waves",
        ],
        "city": [
            "in a city",
            "in the city",
            "on a city street",
            "in front of tall buildings",
            "on a road in town",
            "among skyscrapers",
        ],
    },
    "camera": {
        "still": [
            "static camera",
            "the camera does not move",
            "fixed shot",
            "the camera is still",
            "locked-off camera",
        ],
        "pan left": [
            "the camera pans left",
            "camera panning left",
            "pan left",
            "the camera moves to the left",
            "the view pans to the left",
        ],
        "pan right": [
            "the camera pans right",
            "camera panning right",
            "pan right",
            "the camera moves to the right",
            "the view pans to the right",
        ],
        "zoom in": [
            "the camera zooms in",
            "zoom in",
            "slow zoom in",
            "zooming in",
            "the camera moves closer",
        ],
        "zoom out": [
            "the camera zooms out",
            "zoom out",
            "slow zoom out",
            "zooming out",
            "the camera moves away",
        ],
    },
    "subject details": {
        "ball": ["glossy with a soft highlight", "smooth and shiny"],
        "cube": ["with three shaded faces", "with sharp edges"],
        "cone": ["with a round base", "with a pointed tip"],
        "star": ["with five bevelled arms", "with five sharp points"],
        "ring": ["with a hole in the middle", "smooth and rounded"],
    },
    "environment details": {
        "meadow": [
            "white clouds drift over soft hills and tufts of grass",
            "small flowers in the grass",
        ],
        "sunset": [
            "a pale sun hangs low over dark hills",
            "streaks of pink cloud over a reddish plain",
        ],
        "night": ["a crescent moon and many stars over dark hills", "stars twinkle above"],
        "snow": ["fir trees with white tips stand on the horizon", "pale hills under a grey sky"],
        "underwater": [
            "rays of light fall through teal water onto seaweed and sand",
            "bubbles and swaying seaweed",
        ],
        "city": ["lit windows in grey towers behind the road", "a grey road with white lane marks"],
    },
    "style": [
        "clean 3D cartoon style",
        "soft shadows, simple cartoon look",
        "animated, bright and simple",
    ],
}

CHINESE = {
    "subject": {
        "ball": ["球", "圆球", "球体", "小球"],
        "cube": ["方块", "立方体", "盒子", "正方体"],
        "cone": ["圆锥", "锥体", "圆锥体"],
        "star": ["星星", "五角星", "星形"],
        "ring": ["圆环", "环", "甜甜圈", "圈"],
    },
    "colour": {
        "red": ["红色", "鲜红色", "红"],
        "orange": ["橙色", "橘色", "橙"],
        "yellow": ["黄色", "金黄色", "黄"],
        "green": ["绿色", "翠绿色", "绿"],
        "cyan": ["青色", "青绿色", "青"],
        "blue": ["蓝色", "深蓝色", "蓝"],
        "purple": ["紫色", "紫罗兰色", "紫"],
        "white": ["白色", "纯白色", "白"],
    },
    "motion": {
        "left": ["向左移动", "往左滚动", "向左滑动", "从右向左移动", "朝左边走"],
        "right": ["向右移动", "往右滚动", "向右滑动", "从左向右移动", "朝右边走"],
        "up": ["上升", "向上移动", "往上飘", "飞起来"],
        "down": ["下降", "向下移动", "往下落", "慢慢下沉"],
        "still": ["静止不动", "停在原地", "保持不动", "不动"],
        "bouncing": ["弹跳", "上下弹跳", "跳来跳去", "不停地跳"],
        "circling": ["转圈", "绕圈移动", "沿着圆圈飞", "画圈"],
        "growing": ["变大", "越来越大", "逐渐长大", "膨胀"],
        "shrinking": ["变小", "越来越小", "逐渐缩小", "收缩"],
    },
    "environment": {
        "meadow": ["草地上", "绿色的草原上", "田野里", "阳光下的草地上"],
        "sunset": ["日落时", "夕阳下", "黄昏时分", "晚霞前"],
        "night": ["夜晚", "星空下", "夜里", "月光下"],
        "snow": ["雪地里", "雪中", "冬天的雪原上", "白雪上"],
        "underwater": ["水下", "海底", "海里", "水里"],
        "city": ["城市里", "城市街道上", "高楼前", "马路上"],
    },
    "camera": {
        "still": ["镜头静止", "固定镜头", "镜头不动"],
        "pan left": ["镜头向左平移", "镜头左摇", "镜头往左移"],
        "pan right": ["镜头向右平移", "镜头右摇", "镜头往右移"],
        "zoom in": ["镜头推近", "镜头拉近", "镜头放大"],
        "zoom out": ["镜头拉远", "镜头推远", "镜头缩小"],
    },
    "subject details": {
        "ball": ["光滑发亮", "带着柔和的高光"],
        "cube": ["三个面明暗分明", "棱角分明"],
        "cone": ["底部是圆的", "顶端尖尖的"],
        "star": ["有五个尖角", "五个角很锋利"],
        "ring": ["中间有一个洞", "圆润光滑"],
    },
    "environment details": {
        "meadow": ["白云飘过小山", "草丛里有小花"],
        "sunset": ["太阳低垂在暗色的山上", "天空有粉色的云"],
        "night": ["弯月和繁星挂在山上", "星星闪烁"],
        "snow": ["远处有带雪的冷杉", "灰色的天空下有浅色的山"],
        "underwater": ["光线穿过青色的水照在海草上", "有气泡和摇曳的海草"],
        "city": ["灰色的大楼亮着窗户", "灰色的道路上有白线"],
    },
    "style": ["干净的三维卡通风格", "柔和的阴影", "简单明亮的动画"],
}

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
