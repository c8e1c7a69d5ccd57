/** What our views say, in the language of the canvas. English is the key; a missing word stays so. */

import { app } from "../../../scripts/app.js";

const CHINESE = {
  // timeline
  Timeline: "时间轴",
  "Drag an edge, or use the keyboard: arrows one frame, Shift one second, L lock, R another take.":
    "拖动边缘，或用键盘：方向键一帧，加 Shift 一秒，L 锁定，R 换一版。",
  "Connect shots to see them here": "连接镜头后会显示在这里",
  "length unknown": "长度未知",
  locked: "已锁定",
  "Unlock this shot (L)": "解锁此镜头（L）",
  "Lock this shot: never make it again (L)": "锁定此镜头：不再重新生成（L）",
  "Another take: a new seed (R)": "换一版：新的种子（R）",
  "{n} s": "{n} 秒",
  "more than {n} s": "超过 {n} 秒",
  clip: "片段",
  "clip to frame {n}": "片段，到第 {n} 帧",
  "clip from frame {n}": "片段，从第 {n} 帧起",
  "what happens next": "接下来",
  "what led to it": "在此之前",
  bridge: "过渡",
  "A becomes B": "A 变成 B",
  "Shot {n}": "镜头 {n}",
  "shots from elsewhere": "来自别处的镜头",
  // brush
  "Patch brush": "时空块画笔",
  Time: "时间",
  Paint: "涂抹",
  "Paint patches (hold Shift to erase)": "涂抹时空块（按住 Shift 擦除）",
  Erase: "擦除",
  "Take patches away": "去掉时空块",
  "All times": "所有时间",
  "Paint and clear through the whole clip": "在整个片段上涂抹和清除",
  Clear: "清除",
  "Clear this time, or all with All times": "清除这个时间；选“所有时间”则全部清除",
  "Brush size": "画笔大小",
  "Brush size in patches": "画笔大小（时空块）",
  "{span} · {n} of {total}": "{span} · {n} / {total}",
  "{span}, row {row}, column {column}, painted. Arrows move, Space paints, Page Up and Down change the time.":
    "{span}，第 {row} 行，第 {column} 列，已涂。方向键移动，空格涂抹，Page Up 和 Page Down 换时间。",
  "{span}, row {row}, column {column}, not painted. Arrows move, Space paints, Page Up and Down change the time.":
    "{span}，第 {row} 行，第 {column} 列，未涂。方向键移动，空格涂抹，Page Up 和 Page Down 换时间。",
  "The text in brush is no painting: clear it.": "“画笔”里的文字不是涂抹记录：请清除。",
  "Run once to see the frames here, then paint.": "先运行一次，画面出现后再涂抹。",
  "Painted on a grid of {old}, this clip has {now}: clear it or paint anew.":
    "涂抹时的网格是 {old}，此片段是 {now}：请清除或重新涂抹。",
  "time {n} of {total}": "时间 {n} / {total}",
  "frame {n}": "第 {n} 帧",
  "frames {first}-{last}": "第 {first}-{last} 帧",
  // the clip of a run
  Preview: "预览",
  "Play or pause": "播放或暂停",
  Play: "播放",
  Pause: "暂停",
  "step {n} of {total}": "第 {n} / {total} 步",
  "The clip after step {n}": "第 {n} 步后的片段",
  "Pictures come with a live preview method in ComfyUI's settings.": "在 ComfyUI 设置中选择实时预览方式后会显示画面。",
  "Stop here and decode": "停在这里并解码",
  "Stopping…": "正在停止…",
  "End this run after the present step and go on with what it shows": "本步之后结束，用当前画面继续",
  // reports
  Report: "报告",
  // the host of `make canvas`
  "PatchDiT preview host": "PatchDiT 预览主机",
  "It runs this pack's nodes and a few of ComfyUI's, no others.": "只运行本节点包和少数 ComfyUI 节点。",
};

/** A text of ours with its {values} put in. */
export function say(english, values = {}) {
  const language = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
  const text = (String(language).startsWith("zh") && CHINESE[english]) || english;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
