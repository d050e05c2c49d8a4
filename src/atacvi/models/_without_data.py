"""What a model can tell that was built from a checkpoint, and holds no data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


class WithoutDataMixin:
    """`get_var_names`, `view_anndata_setup` and `_require_data`, with or without data."""

    adata: Any

    def _own_var_names(self) -> np.ndarray | dict[str, np.ndarray]:
        """Return the names of the features that the module knows."""
        raise NotImplementedError

    def get_var_names(self, legacy_mudata_format: bool = False) -> Any:
        """Return the names of the features of the data; without data, those that the model knows.

        Parameters
        ----------
        legacy_mudata_format
            Return one array of all modalities in place of one a modality.

        Returns
        -------
        Names, shape (features,), or those of each modality.

        Examples
        --------
        >>> import atacvi
        >>> model = atacvi.AtacformerModel(universe=["chr1:0-100", "chr1:200-300"])
        >>> model.get_var_names().tolist()
        ['chr1:0-100', 'chr1:200-300']
        """
        if self.adata is None:
            return self._own_var_names()
        return super().get_var_names(legacy_mudata_format)  # type: ignore[misc]

    def view_anndata_setup(
        self, adata: AnnData | MuData | None = None, hide_state_registries: bool = False
    ) -> None:
        """Print what was set up.

        Parameters
        ----------
        adata
            Object that was set up; ``None`` takes that of the model.
        hide_state_registries
            Leave the categories out.

        Raises
        ------
        ValueError
            If there is none.

        Examples
        --------
        >>> import atacvi
        >>> model = atacvi.AtacformerModel(universe=["chr1:0-100", "chr1:200-300"])
        >>> try:
        ...     model.view_anndata_setup()
        ... except ValueError as error:
        ...     print(str(error).split(".")[0])
        The model holds no data
        """
        if adata is None:
            self._require_data()
        if self.adata is None:
            manager = type(self)._get_most_recent_anndata_manager(adata, required=True)  # type: ignore[attr-defined]
            manager.view_registry(hide_state_registries=hide_state_registries)
            return
        super().view_anndata_setup(adata, hide_state_registries)  # type: ignore[misc]

    def _require_data(self) -> None:
        if self.adata is None:
            name = type(self).__name__
            msg = (
                "The model holds no data. Give them as an argument where there is one, load the "
                f"model with its data, `{name}.load(folder, adata)`, or build it on data from the "
                f"checkpoint, `{name}(adata, pretrained=folder)`."
            )
            raise ValueError(msg)
