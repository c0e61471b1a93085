// Turns the slides by keys; one slide is always wholly on screen.
const slides = [...document.querySelectorAll('.slide')];
let at = 0;
const show = (k) => {
  at = Math.max(0, Math.min(slides.length - 1, k));
  slides[at].scrollIntoView({ behavior: 'instant' });
};
const steps = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, ' ': 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 };
addEventListener('keydown', (event) => {
  if (event.key in steps) show(at + steps[event.key]);
  else if (event.key === 'Home') show(0);
  else if (event.key === 'End') show(slides.length - 1);
  else if (event.key === 'Escape') parent.postMessage('milscope: end of presentation', '*');
  else return;
  event.preventDefault();
});
addEventListener('resize', () => show(at));
