// Small buttons under a chart: the chart as SVG or PNG, made by Plotly in this browser, and its data as CSV.
export default function ({ parentElement, data }) {
  const download = (name, blob) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const picture = (format) => {
    const chart = document.querySelector(`.st-key-${CSS.escape(data.chart)} .js-plotly-plot`);
    const camera = chart?.querySelector('.modebar-btn[data-title^="Download"]');
    if (!camera) return;
    const { width, height } = chart.getBoundingClientRect();
    chart._context.toImageButtonOptions = { format, filename: data.name, width, height, scale: format === 'png' ? 4 : 1 };
    camera.click();
  };
  for (const button of parentElement.querySelectorAll('button')) {
    const kind = button.dataset.kind;
    button.onclick = kind === 'csv'
      ? () => download(`${data.name}.csv`, new Blob(['\ufeff', data.csv], { type: 'text/csv' }))
      : () => picture(kind);
  }
  return () => {};
}
