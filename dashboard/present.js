// A button that shows the slides of `data.html` over the whole screen until Escape; nothing else is on it.
export default function ({ parentElement, data }) {
  const button = parentElement.querySelector('button');
  button.onclick = () => {
    const stage = document.createElement('iframe');
    stage.title = 'Presentation';
    stage.srcdoc = data.html;
    stage.allow = 'fullscreen';
    Object.assign(stage.style, {
      position: 'fixed', inset: 0, width: '100vw', height: '100vh', border: 0, zIndex: 2147483647, background: '#fff',
    });
    let full = false;
    const end = () => {
      stage.remove();
      window.removeEventListener('message', told);
      document.removeEventListener('fullscreenchange', left);
      if (document.fullscreenElement) document.exitFullscreen();
      button.focus();
    };
    const told = (event) => {
      if (event.source === stage.contentWindow && event.data === 'milscope: end of presentation') end();
    };
    const left = () => {
      if (document.fullscreenElement) full = true;
      else if (full) end();
    };
    window.addEventListener('message', told);
    document.addEventListener('fullscreenchange', left);
    stage.onload = () => stage.contentWindow.focus();
    document.body.append(stage);
    stage.requestFullscreen().catch(() => {}); // a browser that refuses shows it in the window
  };
  return () => { button.onclick = null; };
}
