"""Style sheet of the page, for screens, phones and print."""

STYLE = """\
:root { --ink: #1c1c1c; --soft: #5d5d5d; --line: #dcdcdc; --paper: #ffffff; --wash: #f5f6f8;
  --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 20px 64px; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue",
  "DejaVu Sans", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 16px; }
h2 { font-size: 1.25rem; margin: 44px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 26px 0 8px; }
p { margin: 0 0 12px; max-width: 76ch; }
.what, .note, figcaption { color: var(--soft); font-size: .875rem; }
.what { margin: 0 0 4px; overflow-wrap: anywhere; }
.note { margin-top: 6px; }
.answer { background: var(--wash); border-left: 5px solid var(--accent); padding: 14px 18px; }
.sentence { font-size: 1.15rem; line-height: 1.45; margin: 0; max-width: none; }
.caveats { margin: 10px 0 0; padding-left: 20px; color: var(--soft); font-size: .925rem; }
.grid { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 6px 8px; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; line-height: 1.25; }
th:first-child { text-align: left; font-weight: 600; }
.interval { color: var(--soft); white-space: nowrap; font-size: .92em; display: inline-block; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 430px), 1fr));
  gap: 22px; margin: 16px 0; align-items: start; }
.figures.wide { grid-template-columns: minmax(0, 760px); }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; }
figcaption { margin-top: 4px; }
pre { background: var(--wash); padding: 10px 12px; font-size: .82rem; line-height: 1.45;
  white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 12px; }
@media (max-width: 700px) {
  body { padding: 16px 14px 48px; }
  h1 { font-size: 1.35rem; }
  .sentence { font-size: 1.05rem; }
  thead { display: none; }
  table, tbody, tr, th, td { display: block; width: 100%; }
  tr { border: 1px solid var(--line); border-radius: 4px; padding: 8px 12px; margin: 0 0 10px; }
  th:first-child, td { border: 0; padding: 2px 0; }
  td { display: flex; justify-content: space-between; gap: 12px; overflow-wrap: anywhere; }
  td::before { content: attr(data-name); color: var(--soft); text-align: left; flex: 0 0 42%; }
  td > span { text-align: right; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2, h3 { break-after: avoid; }
  figure, tr, .answer { break-inside: avoid; }
  .figures { grid-template-columns: 1fr 1fr; gap: 12px; }
  .figures.wide { grid-template-columns: minmax(0, 15cm); }
  .grid { overflow: visible; }
  table { font-size: 7.6pt; }
  th, td { padding: 3px 4px; }
}
"""
