"""The page frame: which views there are, what is open, and the URL. `milscope serve` runs this file."""

from __future__ import annotations


def main() -> None:
    """Draws one run of the page."""
    import streamlit as st

    from dashboard import frame, state

    st.set_page_config(page_title="Milscope", layout="wide", initial_sidebar_state="expanded")
    if not frame.admitted():
        return
    state.arrive()
    page = frame.navigation()
    frame.top()
    page.run()
    if state.arrive():  # it ended while the page was drawn, so that nothing follows it
        st.rerun()
    state.write_url()


if __name__ == "__main__":  # the worker process imports this file under another name
    main()
